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
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import tensorflow as tf

from cvr.schema import FeatureSpec
from cvr.wire import ExampleWriter, bag_payloads, segment_sums, taken_bags

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

    @functools.cached_property
    def payloads(self) -> pa.Array:
        """The ids of each row as they stand in a record, large_binary [rows]."""
        return bag_payloads(self.values, self.lengths)

    def firsts(self, default: int) -> np.ndarray:
        """The first id of each row, `default` for an empty one; int64 [rows]."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.append(self.values, default)[np.where(self.lengths > 0, starts, len(self.values))]


class CodedBag(Bag):
    """Bags of which many are equal: `distinct` ones and, per row, which of them it is (`codes` int64 [rows])."""

    def __init__(self, distinct: Bag, codes: np.ndarray) -> None:
        object.__setattr__(self, "distinct", distinct)
        object.__setattr__(self, "codes", codes)

    distinct: Bag
    codes: np.ndarray

    def firsts(self, default: int) -> np.ndarray:
        """The first id of each row, `default` for an empty one; int64 [rows]."""
        return self.distinct.firsts(default)[self.codes]

    @functools.cached_property
    def lengths(self) -> np.ndarray:  # type: ignore[override]
        """Ids per row, int64 [rows]."""
        return self.distinct.lengths[self.codes]

    @functools.cached_property
    def values(self) -> np.ndarray:  # type: ignore[override]
        """The ids of all rows, one row after the other, int64 [M]."""
        starts = (np.cumsum(self.distinct.lengths) - self.distinct.lengths)[self.codes]
        within = np.arange(int(self.lengths.sum())) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        return self.distinct.values[np.repeat(starts, self.lengths) + within]


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
    bags: Mapping[str, Bag] = dataclasses.field(default_factory=dict)
    sequences: dict[str, Histories] = dataclasses.field(default_factory=dict)


def slice_lists(spec: FeatureSpec, columns: ListColumns, begin: int, end: int) -> ListColumns:
    """The lists begin .. end - 1, as views."""
    layout = Layout.of(spec)
    ends = np.concatenate([[0], np.cumsum(columns.lengths)])
    lists, items = slice(begin, end), slice(int(ends[begin]), int(ends[end]))
    of_list = {"search_id", "time", "lengths", "context_num"}
    flat = [f.name for f in dataclasses.fields(ListColumns) if f.name not in ("cat", "bags", "sequences")]
    context = set(layout.context_cat + layout.context_ragged)
    return ListColumns(
        **{name: getattr(columns, name)[lists if name in of_list else items] for name in flat},
        cat={name: ids[lists if name in context else items] for name, ids in columns.cat.items()},
        bags={name: _slice_bag(bag, lists if name in context else items) for name, bag in columns.bags.items()},
        sequences={name: _slice_histories(found, lists) for name, found in columns.sequences.items()},
    )


def _slice_bag(bag: Bag, rows: slice) -> Bag:
    if isinstance(bag, CodedBag):
        return CodedBag(bag.distinct, bag.codes[rows])
    ends = np.concatenate([[0], np.cumsum(bag.lengths)])
    return Bag(bag.values[int(ends[rows.start]) : int(ends[rows.stop])], bag.lengths[rows])


def _slice_histories(found: Histories, lists: slice) -> Histories:
    ends = np.concatenate([[0], np.cumsum(found.lengths)])
    events = slice(int(ends[lists.start]), int(ends[lists.stop]))
    return Histories(found.item[events], found.action[events], found.age[events], found.lengths[lists])


def encode(spec: FeatureSpec, columns: ListColumns) -> list[bytes]:
    """Serialises lists to records, vectorised over all of them. Raises ValueError where columns do not fit the spec."""
    layout = Layout.of(spec)
    _check_columns(layout, columns)
    rows = len(columns.lengths)
    if not rows:
        return []
    one, sizes, tasks = np.ones(rows, np.int64), columns.lengths.astype(np.int64), len(layout.tasks)
    writer = ExampleWriter(rows)
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
    for name in layout.context_ragged + layout.item_ragged:
        bag, of_items = columns.bags[name], name in layout.item_ragged
        pieces = sizes if of_items else one
        if isinstance(bag, CodedBag):
            writer.varints(f"r/{name}", *taken_bags(bag.distinct.payloads, bag.codes), pieces)
        else:
            writer.int64(f"r/{name}", bag.values, segment_sums(bag.lengths, pieces))
        if of_items:
            writer.int64(f"r/{name}/n", bag.lengths, sizes)
    for name in layout.sequences:
        sequence = columns.sequences[name]
        for part in ("item", "action"):
            writer.int64(f"s/{name}/{part}", getattr(sequence, part), sequence.lengths.astype(np.int64))
        writer.float32(f"s/{name}/age", sequence.age, sequence.lengths.astype(np.int64))
    return writer.finish().to_pylist()


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
    with tf.control_dependencies([_same_spec(layout, raw["spec"])]):
        return _columns_of(layout, raw)


def _same_spec(layout: Layout, found: tf.Tensor) -> tf.Operation | None:
    message = "a record was built with another feature spec than the one given; rebuild the lists or use the spec in their manifest"
    return tf.debugging.assert_equal(tf.reduce_all(tf.equal(found, tf.constant(layout.fingerprint, tf.int64))), True, message)


def parse_histories(spec: FeatureSpec, name: str, serialized: tf.Tensor) -> Tensors:
    """One sequence of records [R], without decoding the rest.

    Gives `time`, `lengths` int64 [R], `item`, `action` int64 [S], `age` float32 [S]. Raises InvalidArgumentError as `parse` does.
    """
    whole, number = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64), tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64)
    keys = {"item": whole, "action": whole, "age": number}
    features = {
        "spec": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        "time": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        **{f"s/{name}/{part}": kind for part, kind in keys.items()},
    }
    raw = tf.io.parse_example(serialized, features)
    with tf.control_dependencies([_same_spec(Layout.of(spec), raw["spec"])]):
        lengths, time = raw[f"s/{name}/item"].row_lengths(), tf.identity(raw["time"])
    return {"time": time, "lengths": lengths, **{part: raw[f"s/{name}/{part}"].flat_values for part in keys}}


def _columns_of(layout: Layout, raw: dict[str, tf.Tensor | tf.RaggedTensor]) -> Tensors:
    """Parsed keys by the names of columns; the reshapes fail where the parts of a record do not fit together."""
    tasks = len(layout.tasks)
    out: Tensors = {"search_id": tf.identity(raw["search_id"]), "time": raw["time"], "list_size": raw["item"].row_lengths()}
    out["item"] = raw["item"].flat_values
    items, lists = tf.shape(out["item"]), tf.shape(out["time"])
    shapes = {columns: tf.concat([items, [columns]], axis=0) for columns in {tasks, len(layout.item_num)}}
    for key in ("position", "popularity"):
        out[key] = tf.reshape(raw[key].flat_values, items)
    out["labels"] = tf.cast(tf.reshape(raw["labels"].flat_values, shapes[tasks]), tf.float32)
    out["delay"] = tf.reshape(raw["delay"].flat_values, shapes[tasks]) - 1
    out["context_num"] = tf.reshape(raw["context_num"].flat_values, tf.concat([lists, [len(layout.context_num)]], axis=0))
    out["item_num"] = tf.reshape(raw["item_num"].flat_values, shapes[len(layout.item_num)])
    for name in layout.context_cat + layout.item_cat:
        out[f"cat/{name}"] = tf.reshape(raw[f"c/{name}"].flat_values, items if name in layout.item_cat else lists)
    for name in layout.context_ragged + layout.item_ragged:
        bag = raw[f"r/{name}"]
        out[f"ragged/{name}/values"] = bag.flat_values
        out[f"ragged/{name}/lengths"] = raw[f"r/{name}/n"].flat_values if name in layout.item_ragged else bag.row_lengths()
    for name in layout.sequences:
        events = raw[f"s/{name}/item"]
        for part in ("item", "action", "age"):
            out[f"seq/{name}/{part}"] = tf.reshape(raw[f"s/{name}/{part}"].flat_values, tf.shape(events.flat_values))
        out[f"seq/{name}/lengths"] = events.row_lengths()
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
