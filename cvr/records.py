"""The list record: one `tf.train.Example` per search list, and the only code that knows its keys.

Keys of a list of n items, T tasks (all numbers list-major, item by item):

    spec         int64 [1]    the spec's fingerprint
    search_id    bytes [1]    time  int64 [1]  ms since the epoch, UTC
    item         int64 [n]    hashed item ids, in display order       position    int64 [n]  1-based
    labels       int64 [n*T]  0 or 1                                  delay       int64 [n*T]  1 + ms to the engagement, 0 without one
    popularity   float [n]    engagements of the item so far (a baseline, not a feature)
    context_num  float [Cn]   item_num  float [n*In]                  numericals in spec order; NaN missing, -inf unseen
    c/<name>     int64 [1] or [n]                                     categorical: full hash or reserved id
    r/<name>     int64, r/<name>/n int64 [n] (item level only)        bags of ids and their row lengths
    s/<name>/item, s/<name>/action  int64 [k], s/<name>/age float [k] history, most recent first; age in seconds
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from cvr.schema import FeatureSpec

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which stored features sit where in a record, in spec order."""

    tasks: tuple[str, ...]
    context_num: tuple[str, ...]
    item_num: tuple[str, ...]
    context_cat: tuple[str, ...]
    item_cat: tuple[str, ...]
    context_ragged: tuple[str, ...]
    item_ragged: tuple[str, ...]
    sequences: tuple[str, ...]
    fingerprint: int

    @classmethod
    def of(cls, spec: FeatureSpec) -> Layout:
        """The layout that a spec's records have."""

        def names(level: str, kinds: Sequence[str], ragged: bool = False) -> tuple[str, ...]:
            stored = spec.select(level=level, stored=True)
            return tuple(f.name for f in stored if f.kind in kinds and f.ragged == ragged)

        return cls(
            tasks=spec.task_names,
            context_num=names("context", ("numerical",)),
            item_num=names("item", ("numerical",)),
            context_cat=names("context", ("categorical",)),
            item_cat=names("item", ("categorical",)),
            context_ragged=names("context", ("text", "categorical"), ragged=True),
            item_ragged=names("item", ("text", "categorical"), ragged=True),
            sequences=names("context", ("sequence",)),
            fingerprint=int(spec.fingerprint, 16) >> 1,
        )


@dataclasses.dataclass(frozen=True)
class Bag:
    """Ragged ids: `values` int64 [M] and `lengths` int64 [rows]."""

    values: np.ndarray
    lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Histories:
    """Histories of L lists: `item`, `action` int64 [S], `age` float32 [S] seconds, most recent first; `lengths` int64 [L]."""

    item: np.ndarray
    action: np.ndarray
    age: np.ndarray
    lengths: np.ndarray


@dataclasses.dataclass(frozen=True)
class ListColumns:
    """L lists with N items in all, as columns; items of a list are adjacent and in display order."""

    search_id: np.ndarray
    time: np.ndarray
    lengths: np.ndarray
    item: np.ndarray
    position: np.ndarray
    labels: np.ndarray
    delay: np.ndarray
    popularity: np.ndarray
    context_num: np.ndarray
    item_num: np.ndarray
    cat: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    bags: dict[str, Bag] = dataclasses.field(default_factory=dict)
    sequences: dict[str, Histories] = dataclasses.field(default_factory=dict)


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base-128 varints of int64 values: (bytes uint8 [total], bytes per value int64 [N])."""
    unsigned = values.astype(np.int64).view(np.uint64)
    counts = np.ones(len(unsigned), np.int64)
    for group in range(1, 10):
        counts += unsigned >= np.uint64(1 << (7 * group))
    width = int(counts.max(initial=1))
    shifts = (7 * np.arange(width)).astype(np.uint64)
    groups = ((unsigned[:, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
    place = np.arange(width)
    groups |= np.where(place < counts[:, None] - 1, np.uint8(0x80), np.uint8(0))
    return groups[place < counts[:, None]], counts


def _binary(payload: np.ndarray, sizes: np.ndarray) -> pa.Array:
    """Arrow binaries that cut a byte buffer into consecutive pieces of the given sizes."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(payload))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(sizes), buffers)


def _segment_sums(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    ends = np.cumsum(lengths)
    sums = np.concatenate([[0], np.cumsum(values)])
    return sums[ends] - sums[ends - lengths]


class _Writer:
    """Collects the features of L Examples and joins their wire format in one pass of memory copies."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._pieces: list[pa.Array | pa.Scalar] = []
        self._size = np.zeros(rows, np.int64)

    def _varint_piece(self, values: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        payload, counts = _varints(values)
        return _binary(payload, counts), counts

    def _add(self, key: str, list_tag: bytes, body: pa.Array, body_size: np.ndarray) -> None:
        # Features.feature entry = 0x0A len { 0x0A len key, 0x12 len { list_tag len { 0x0A len body } } }
        inner, inner_size = self._varint_piece(body_size)
        list_size = 1 + inner_size + body_size
        outer, outer_size = self._varint_piece(list_size)
        feature_size = 1 + outer_size + list_size
        feature, feature_len = self._varint_piece(feature_size)
        name = key.encode()
        head = b"\x0a" + bytes([len(name)]) + name + b"\x12"
        entry_size = len(head) + feature_len + feature_size
        entry, entry_len = self._varint_piece(entry_size)
        self._pieces += [b"\x0a", entry, head, feature, list_tag, outer, b"\x0a", inner, body]
        self._size += 1 + entry_len + entry_size

    def int64(self, key: str, values: np.ndarray, lengths: np.ndarray) -> None:
        payload, counts = _varints(np.ravel(values))
        sizes = _segment_sums(counts, lengths)
        self._add(key, b"\x1a", _binary(payload, sizes), sizes)

    def float32(self, key: str, values: np.ndarray, lengths: np.ndarray) -> None:
        payload = np.ascontiguousarray(np.ravel(values), "<f4").view(np.uint8)
        self._add(key, b"\x12", _binary(payload, 4 * lengths), 4 * lengths)

    def bytes_(self, key: str, values: Sequence[bytes]) -> None:
        array = pa.array(values, pa.large_binary())
        self._add(key, b"\x0a", array, pc.binary_length(array).to_numpy().astype(np.int64))

    def finish(self) -> list[bytes]:
        size, _ = self._varint_piece(self._size)
        pieces = [pa.scalar(p, pa.large_binary()) if isinstance(p, bytes) else p for p in [b"\x0a", size, *self._pieces]]
        return pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary())).to_pylist()


def encode(spec: FeatureSpec, columns: ListColumns) -> list[bytes]:
    """Serialises lists to records, vectorised over all of them. Raises ValueError where columns do not fit the spec."""
    layout = Layout.of(spec)
    _check_columns(layout, columns)
    rows = len(columns.lengths)
    if not rows:
        return []
    one, sizes, tasks = np.ones(rows, np.int64), columns.lengths.astype(np.int64), len(layout.tasks)
    writer = _Writer(rows)
    writer.int64("spec", np.full(rows, layout.fingerprint), one)
    writer.bytes_("search_id", [s.encode() if isinstance(s, str) else bytes(s) for s in columns.search_id])
    writer.int64("time", columns.time, one)
    writer.int64("item", columns.item, sizes)
    writer.int64("position", columns.position, sizes)
    writer.int64("labels", columns.labels, sizes * tasks)
    writer.int64("delay", columns.delay + 1, sizes * tasks)
    writer.float32("popularity", columns.popularity, sizes)
    writer.float32("context_num", columns.context_num, one * len(layout.context_num))
    writer.float32("item_num", columns.item_num, sizes * len(layout.item_num))
    for name in layout.context_cat + layout.item_cat:
        writer.int64(f"c/{name}", columns.cat[name], sizes if name in layout.item_cat else one)
    for name in layout.context_ragged:
        writer.int64(f"r/{name}", columns.bags[name].values, columns.bags[name].lengths.astype(np.int64))
    for name in layout.item_ragged:
        bag = columns.bags[name]
        writer.int64(f"r/{name}", bag.values, _segment_sums(bag.lengths, sizes))
        writer.int64(f"r/{name}/n", bag.lengths, sizes)
    for name in layout.sequences:
        sequence = columns.sequences[name]
        for part in ("item", "action"):
            writer.int64(f"s/{name}/{part}", getattr(sequence, part), sequence.lengths.astype(np.int64))
        writer.float32(f"s/{name}/age", sequence.age, sequence.lengths.astype(np.int64))
    return writer.finish()


def _check_columns(layout: Layout, columns: ListColumns) -> None:
    lists, items, tasks = len(columns.lengths), int(np.sum(columns.lengths)), len(layout.tasks)
    expected: list[tuple[str, np.ndarray, tuple[int, ...]]] = [
        ("search_id", columns.search_id, (lists,)),
        ("time", columns.time, (lists,)),
        ("item", columns.item, (items,)),
        ("position", columns.position, (items,)),
        ("labels", columns.labels, (items, tasks)),
        ("delay", columns.delay, (items, tasks)),
        ("popularity", columns.popularity, (items,)),
        ("context_num", columns.context_num, (lists, len(layout.context_num))),
        ("item_num", columns.item_num, (items, len(layout.item_num))),
        *((name, columns.cat[name], (lists,)) for name in layout.context_cat),
        *((name, columns.cat[name], (items,)) for name in layout.item_cat),
        *((name, columns.bags[name].lengths, (lists,)) for name in layout.context_ragged),
        *((name, columns.bags[name].lengths, (items,)) for name in layout.item_ragged),
        *((name, columns.sequences[name].lengths, (lists,)) for name in layout.sequences),
    ]
    for name, values, shape in expected:
        if np.shape(values) != shape:
            raise ValueError(f"column {name!r} has shape {np.shape(values)}, expected {shape} for {lists} lists of {items} items")


def parse(spec: FeatureSpec, serialized: tf.Tensor) -> Tensors:
    """Decodes records [R] into flat columns: a dict of tensors, items of all lists one after the other.

    Gives `list_size` int64 [R], `item`, `position`, `popularity` [N], `labels`, `delay` [N, T] (delay -1 without an engagement),
    `context_num` [R, Cn], `item_num` [N, In], `cat/<name>`, `ragged/<name>/values` and `/lengths`, `seq/<name>/item|action|age` and
    `/lengths`. Raises InvalidArgumentError when a record was built with another spec or its parts do not fit together.
    """
    layout = Layout.of(spec)
    ragged_int = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
    ragged_float = tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64)
    features: dict[str, object] = {
        "spec": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        "search_id": tf.io.FixedLenFeature([], tf.string, default_value=""),
        "time": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        **{key: ragged_int for key in ("item", "position", "labels", "delay")},
        **{key: ragged_float for key in ("popularity", "context_num", "item_num")},
        **{f"c/{name}": ragged_int for name in layout.context_cat + layout.item_cat},
        **{f"r/{name}": ragged_int for name in layout.context_ragged + layout.item_ragged},
        **{f"r/{name}/n": ragged_int for name in layout.item_ragged},
    }
    for name in layout.sequences:
        features |= {f"s/{name}/item": ragged_int, f"s/{name}/action": ragged_int, f"s/{name}/age": ragged_float}
    raw = tf.io.parse_example(serialized, features)
    message = "a record was built with another feature spec than the one given; rebuild the lists or use the spec in their manifest"
    with tf.control_dependencies([tf.debugging.assert_equal(raw["spec"], tf.constant(layout.fingerprint, tf.int64), message)]):
        return _columns_of(layout, raw)


def _columns_of(layout: Layout, raw: dict[str, tf.Tensor | tf.RaggedTensor]) -> Tensors:
    tasks = len(layout.tasks)
    out: Tensors = {"search_id": tf.identity(raw["search_id"]), "time": raw["time"], "list_size": raw["item"].row_lengths()}
    for key in ("item", "position", "popularity"):
        out[key] = raw[key].flat_values
    items = tf.shape(out["item"])[0]
    rows = tf.shape(out["time"])[0]
    out["labels"] = tf.cast(tf.reshape(raw["labels"].flat_values, [items, tasks]), tf.float32)
    out["delay"] = tf.reshape(raw["delay"].flat_values, [items, tasks]) - 1
    out["context_num"] = tf.reshape(raw["context_num"].flat_values, [rows, len(layout.context_num)])
    out["item_num"] = tf.reshape(raw["item_num"].flat_values, [items, len(layout.item_num)])
    for name in layout.context_cat + layout.item_cat:
        count = items if name in layout.item_cat else rows
        out[f"cat/{name}"] = tf.reshape(raw[f"c/{name}"].flat_values, [count])
    for name in layout.context_ragged + layout.item_ragged:
        bag = raw[f"r/{name}"]
        out[f"ragged/{name}/values"] = bag.flat_values
        out[f"ragged/{name}/lengths"] = raw[f"r/{name}/n"].flat_values if name in layout.item_ragged else bag.row_lengths()
    for name in layout.sequences:
        for part in ("item", "action", "age"):
            out[f"seq/{name}/{part}"] = raw[f"s/{name}/{part}"].flat_values
        out[f"seq/{name}/lengths"] = raw[f"s/{name}/item"].row_lengths()
    return out


def list_sizes(serialized: tf.Tensor) -> tf.Tensor:
    """Items per record, int64 [R], without decoding the rest."""
    return tf.io.parse_example(serialized, {"position": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)})["position"].row_lengths()


def search_ids(serialized: tf.Tensor) -> tf.Tensor:
    """Search ids of records, string [R], without decoding the rest."""
    return tf.io.parse_example(serialized, {"search_id": tf.io.FixedLenFeature([], tf.string, default_value="")})["search_id"]


def decode(spec: FeatureSpec, records: Sequence[bytes]) -> ListColumns:
    """Records back to columns: the inverse of `encode`, so encode(spec, decode(spec, records)) gives the same bytes.

    Raises ValueError where a record was built with another spec or its parts do not fit together.
    """
    layout = Layout.of(spec)
    try:
        found = {name: value.numpy() for name, value in parse(spec, tf.constant(list(records), tf.string)).items()}
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(error.message) from error
    ragged = layout.context_ragged + layout.item_ragged
    return ListColumns(
        search_id=found["search_id"],
        time=found["time"],
        lengths=found["list_size"],
        item=found["item"],
        position=found["position"],
        labels=found["labels"].astype(np.int64),
        delay=found["delay"],
        popularity=found["popularity"],
        context_num=found["context_num"],
        item_num=found["item_num"],
        cat={name: found[f"cat/{name}"] for name in layout.context_cat + layout.item_cat},
        bags={name: Bag(found[f"ragged/{name}/values"], found[f"ragged/{name}/lengths"]) for name in ragged},
        sequences={
            name: Histories(*(found[f"seq/{name}/{part}"] for part in ("item", "action", "age", "lengths")))
            for name in layout.sequences
        },
    )
