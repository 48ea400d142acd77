"""The list record: one `tf.train.Example` per search list, and the only code that knows its keys.

Keys of a list of n items, T tasks (all values list-major, item by item; words are raw little-endian bytes, 8 or 4 to a word):

    spec         int64 [1]      the fingerprint of the spec and of this format
    search_id    bytes [1]      time  int64 [1]  ms since the epoch, UTC
    item         words8 [n]     hashed item ids, in display order      position  int64 [n]  1-based
    labels       int64 [n*T]    0 or 1                                 delay     int64 [n*T]  1 + ms to the engagement, 0 without one
    popularity   float [n]      engagements of the item so far (a baseline, not a feature)
    context_num  float [Cn]     item_num  float [n*In]                 numericals in spec order; NaN missing, -inf unseen
    context_cat  words8 [Cc]    item_cat  words8 [n*Ic]                categoricals in spec order: full hash or reserved id
    r/<name>     words4 (text) or words8, r/<name>/n int64 [n] (item level only)   bags of ids and their row lengths
    s/<name>/item words8 [k], s/<name>/action int64 [k], s/<name>/age float [k]    history, most recent first; age in seconds

Ids are words because a varint of a hash takes more bytes and some five times as long to read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import tensorflow as tf

from cvr.schema import FeatureSpec
from cvr.wire import ExampleWriter, binary, segment_sums, taken_bags, words

Tensors = dict[str, tf.Tensor]

RECORD_FORMAT = 2
"""Of the keys above; part of the fingerprint in a record, so that one of another version is refused."""


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
    texts: frozenset[str]
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
            texts=frozenset(f.name for f in spec.select(kind="text", stored=True)),
            fingerprint=(int(spec.fingerprint, 16) >> 1) ^ RECORD_FORMAT,
        )

    def word(self, bag: str) -> int:
        """Bytes of an id in a bag: n-grams have 31 bits and a little more, hashes 63."""
        return 4 if bag in self.texts else 8


@dataclasses.dataclass(frozen=True)
class Bag:
    """Ragged ids: `values` int64 [M] and `lengths` int64 [rows]."""

    values: np.ndarray
    lengths: np.ndarray

    def payloads(self, word: int) -> pa.Array:
        """The ids of each row as they stand in a record, in words of so many bytes; large_binary [rows]."""
        if word not in self._payloads:
            self._payloads[word] = binary(words(self.values, word), word * self.lengths)
        return self._payloads[word]

    @functools.cached_property
    def _payloads(self) -> dict[int, pa.Array]:
        return {}

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
    writer.words("item", words(columns.item, 8), 8 * sizes)
    writer.int64("position", columns.position, sizes)
    writer.int64("labels", columns.labels, sizes * tasks)
    writer.int64("delay", columns.delay + 1, sizes * tasks)
    writer.float32("popularity", columns.popularity, sizes)
    writer.float32("context_num", columns.context_num, one * len(layout.context_num))
    writer.float32("item_num", columns.item_num, sizes * len(layout.item_num))
    for key, names, pieces in (("context_cat", layout.context_cat, one), ("item_cat", layout.item_cat, sizes)):
        ids = np.stack([columns.cat[name] for name in names], axis=1) if names else np.zeros(0, np.int64)
        writer.words(key, words(ids, 8), 8 * len(names) * pieces)
    for name in layout.context_ragged + layout.item_ragged:
        bag, of_items, word = columns.bags[name], name in layout.item_ragged, layout.word(name)
        if isinstance(bag, CodedBag):
            payload, counts = taken_bags(bag.distinct.payloads(word), bag.codes)
        else:
            payload, counts = words(bag.values, word), word * bag.lengths
        writer.words(f"r/{name}", payload, segment_sums(counts, sizes if of_items else one))
        if of_items:
            writer.int64(f"r/{name}/n", bag.lengths, sizes)
    for name in layout.sequences:
        sequence = columns.sequences[name]
        lengths = sequence.lengths.astype(np.int64)
        writer.words(f"s/{name}/item", words(sequence.item, 8), 8 * lengths)
        writer.int64(f"s/{name}/action", sequence.action, lengths)
        writer.float32(f"s/{name}/age", sequence.age, lengths)
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
    word = tf.io.FixedLenFeature([], tf.string, default_value="")
    features: dict[str, object] = {
        "spec": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        "search_id": tf.io.FixedLenFeature([], tf.string, default_value=""),
        "time": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        **dict.fromkeys(("position", "labels", "delay"), ragged_int),
        **dict.fromkeys(("popularity", "context_num", "item_num"), ragged_float),
        **dict.fromkeys(("item", "context_cat", "item_cat"), word),
        **{f"r/{name}": word for name in layout.context_ragged + layout.item_ragged},
        **{f"r/{name}/n": ragged_int for name in layout.item_ragged},
    }
    for name in layout.sequences:
        features |= _history_keys(name)
    raw = tf.io.parse_example(serialized, features)
    with tf.control_dependencies([_same_spec(layout, raw["spec"])]):
        return _columns_of(layout, raw)


def _same_spec(layout: Layout, found: tf.Tensor) -> tf.Operation | None:
    message = "a record was built with another feature spec than the one given, or by another version; rebuild the lists or use their spec"
    return tf.debugging.assert_equal(tf.reduce_all(tf.equal(found, tf.constant(layout.fingerprint, tf.int64))), True, message)


def parse_histories(spec: FeatureSpec, name: str, serialized: tf.Tensor) -> Tensors:
    """One sequence of records [R], without decoding the rest.

    Gives `time`, `lengths` int64 [R], `item`, `action` int64 [S], `age` float32 [S]. Raises InvalidArgumentError as `parse` does.
    """
    features = {
        "spec": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        "time": tf.io.FixedLenFeature([], tf.int64, default_value=0),
        **_history_keys(name),
    }
    raw = tf.io.parse_example(serialized, features)
    with tf.control_dependencies([_same_spec(Layout.of(spec), raw["spec"])]):
        return {"time": tf.identity(raw["time"]), **_history_of(name, raw)}


def _history_keys(name: str) -> dict[str, object]:
    """Of a sequence, as `tf.io.parse_example` takes them."""
    return {
        f"s/{name}/item": tf.io.FixedLenFeature([], tf.string, default_value=""),
        f"s/{name}/action": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
        f"s/{name}/age": tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64),
    }


def _history_of(name: str, raw: dict[str, tf.Tensor | tf.RaggedTensor]) -> Tensors:
    """A sequence's parsed keys by part; the reshapes fail where its parts do not fit together."""
    item = _ids_of(raw[f"s/{name}/item"], 8)
    others = {part: tf.reshape(raw[f"s/{name}/{part}"].flat_values, tf.shape(item)) for part in ("action", "age")}
    return {"item": item, **others, "lengths": _word_counts(raw[f"s/{name}/item"], 8)}


def _columns_of(layout: Layout, raw: dict[str, tf.Tensor | tf.RaggedTensor]) -> Tensors:
    """Parsed keys by the names of columns; the reshapes fail where the parts of a record do not fit together."""
    tasks = len(layout.tasks)
    out: Tensors = {"search_id": tf.identity(raw["search_id"]), "time": raw["time"], "list_size": raw["position"].row_lengths()}
    out["item"] = _ids_of(raw["item"], 8)
    items, lists = tf.shape(out["item"]), tf.shape(out["time"])
    shapes = {columns: tf.concat([items, [columns]], axis=0) for columns in {tasks, len(layout.item_num)}}
    for key in ("position", "popularity"):
        out[key] = tf.reshape(raw[key].flat_values, items)
    out["labels"] = tf.cast(tf.reshape(raw["labels"].flat_values, shapes[tasks]), tf.float32)
    out["delay"] = tf.reshape(raw["delay"].flat_values, shapes[tasks]) - 1
    out["context_num"] = tf.reshape(raw["context_num"].flat_values, tf.concat([lists, [len(layout.context_num)]], axis=0))
    out["item_num"] = tf.reshape(raw["item_num"].flat_values, shapes[len(layout.item_num)])
    for key, names, rows in (("context_cat", layout.context_cat, lists), ("item_cat", layout.item_cat, items)):
        if names:
            columns = tf.reshape(_ids_of(raw[key], 8), tf.concat([rows, [len(names)]], axis=0))
            out |= {f"cat/{name}": column for name, column in zip(names, tf.unstack(columns, axis=1), strict=True)}
    for name in layout.context_ragged + layout.item_ragged:
        bag, word = raw[f"r/{name}"], layout.word(name)
        out[f"ragged/{name}/values"] = _ids_of(bag, word)
        out[f"ragged/{name}/lengths"] = raw[f"r/{name}/n"].flat_values if name in layout.item_ragged else _word_counts(bag, word)
    for name in layout.sequences:
        out |= {f"seq/{name}/{part}": values for part, values in _history_of(name, raw).items()}
    return out


def _ids_of(raw: tf.Tensor, word: int) -> tf.Tensor:
    """The words of all records, one record after the other: string `[R]` -> int64 `[M]`."""
    joined = tf.strings.reduce_join(raw)
    if word == 8:
        return tf.io.decode_raw(joined, tf.int64)
    return tf.cast(tf.bitcast(tf.io.decode_raw(joined, tf.int32), tf.uint32), tf.int64)


def _word_counts(raw: tf.Tensor, word: int) -> tf.Tensor:
    """Words per record, int64 `[R]`."""
    return tf.cast(tf.strings.length(raw), tf.int64) // word


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
