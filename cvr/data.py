"""List records -> batches of flat items: `[N]` items plus row splits, packed to an item budget so shapes are static.

A batch is a flat dict of tensors (ARCHITECTURE decision 3): items of all lists one after the other, context features once per list.

    list_index int32 [N]   item_offset int32 [N]   list_size int32 [B]   item int64 [N]   item_mask float32 [N]
    context_num float32 [B, Cn]   item_num float32 [N, In]   cat/<name> int64 [B] or [N]
    ragged/<name>/values int64 [M], ragged/<name>/rows int32 [M]   padded ids have row -1, which is in no bag
    seq/<name>/item, seq/<name>/action int64 [B, K], seq/<name>/age float32 [B, K]   most recent first, padded with 0
    labels float32 [N, T]   delay int64 [N, T]   position int32 [N]   popularity float32 [N]   search_id string [B]   time int64 [B]

With a budget, N and B are fixed: padding items point to the last list, which is always empty.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr import records, transforms
from cvr.errors import CvrError
from cvr.manifest import Manifest
from cvr.schema import FeatureSpec

Batch = dict[str, tf.Tensor]

CHUNK = 256
"""Records that are packed together in one call of the packing function."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """The static size of a batch: at most `items` items and `lists` lists, the last list being kept empty for padding.

    With `pad_bags` the bags' ids are padded, too, to one of few sizes (`bag_room`), so that XLA compiles few programs.
    """

    items: int
    lists: int
    pad_bags: bool = False

    @classmethod
    def for_mean(cls, items: int, mean: float) -> Budget:
        """For lists of `mean` items on average: a list limit that the item budget reaches first, 1.5 times the mean number of lists, and
        the empty one."""
        return cls(items=items, lists=int(1.5 * items / mean) + 2)

    @classmethod
    def for_manifest(cls, manifest: Manifest, splits: Sequence[str], items: int) -> Budget:
        """For the lists of some splits. Raises CvrError when the longest list does not fit into the budget."""
        chosen = [manifest.split(name) for name in splits]
        longest = max(split.max_list_size for split in chosen)
        if longest > items:
            raise CvrError(f"--batch_items={items} is smaller than the longest list ({longest} items); raise it to at least {longest}")
        mean = sum(split.items for split in chosen) / sum(split.lists for split in chosen)
        return cls.for_mean(items, mean)


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """A seeded shuffle, the same on any machine: of the files, then of records in a buffer of `buffer` lists.

    TensorFlow mixes `seed` with its global seed (`tf.random.set_seed`), which `cvr.ranker.build_ranker` sets.
    """

    seed: int
    buffer: int = 20_000


def split_files(folder: str | Path, manifest: Manifest, splits: Sequence[str]) -> list[str]:
    """Paths of the record files of the named splits, in the manifest's order. Raises CvrError naming a missing or cut file."""
    paths: list[str] = []
    for name in splits:
        for file in manifest.split(name).files:
            path = Path(folder) / file.path
            if not path.is_file():
                raise CvrError(f"{path} is in the manifest but not on disk; rebuild the lists or restore the file")
            if path.stat().st_size != file.bytes:
                raise CvrError(f"{path} has {path.stat().st_size} bytes, its manifest says {file.bytes}: it was cut or changed; rebuild it")
            paths.append(str(path))
    return paths


def read_records(files: Sequence[str], shuffle: Shuffle | None = None) -> tf.data.Dataset:
    """Serialized records of the files (gzip by their `.gz` ending, plain otherwise), in order or shuffled by a seed."""
    kinds = {file.endswith(".gz") for file in files}
    if len(kinds) != 1:
        raise CvrError("files with and without .gz in one split; rebuild the lists with one compression")
    dataset = tf.data.Dataset.from_tensor_slices(list(files))
    compression = "GZIP" if kinds.pop() else ""

    def open_file(path: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(path, compression_type=compression, buffer_size=1 << 20)

    if shuffle is None:
        return dataset.flat_map(_plain(open_file))
    dataset = dataset.shuffle(len(files), seed=shuffle.seed).interleave(_plain(open_file), cycle_length=min(8, len(files)), block_length=32)
    return dataset.shuffle(shuffle.buffer, seed=shuffle.seed)


def _cut(sizes: tf.Tensor, budget: Budget, final: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the groups that a queue of lists is cut into begin and end, greedily; the last, unfinished one is left out unless `final`.

    next(i) is where a group that begins at list i ends, for all i at once. The groups begin at 0, next(0), next(next(0)), ...: from the
    first 2^k of them come the next 2^k by next applied 2^k times, so that no loop runs (one costs 0.2 ms a batch in tf.data).
    """
    total = tf.size(sizes)
    cumulative = tf.concat([tf.constant([0], tf.int64), tf.cumsum(sizes)], axis=0)
    full = tf.searchsorted(cumulative, cumulative + budget.items, side="right") - 1
    ends = tf.minimum(full, tf.minimum(tf.range(total + 1) + (budget.lists - 1), total))
    starts, jump = tf.constant([0]), ends
    for _ in range((CHUNK + budget.lists).bit_length()):
        starts = tf.concat([starts, tf.gather(jump, starts)], axis=0)
        jump = tf.gather(jump, jump)
    stops = tf.gather(ends, starts)
    whole = tf.logical_and(stops > starts, tf.logical_or(stops < total, final))
    count = tf.reduce_sum(tf.cast(whole, tf.int32))
    return starts[:count], stops[:count]


def _share(left: tf.Tensor, chunk: tf.Tensor, starts: tf.Tensor, stops: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first group of `left` and `chunk` one after the other, where `left` has a part in it, and what no group has.

    Only these records are copied; a slice of a tensor is none. All of `left` is in the first group, being what did not fill one.
    """
    count = tf.size(left)

    def some() -> tuple[tf.Tensor, tf.Tensor]:
        head = tf.where(count > 0, stops[0] - count, 0)
        return tf.concat([left, chunk[:head]], axis=0), chunk[stops[-1] - count :]

    return tf.cond(tf.size(starts) > 0, some, lambda: (tf.zeros([0], tf.string), tf.concat([left, chunk], axis=0)))


def pack(dataset: tf.data.Dataset, budget: Budget) -> tf.data.Dataset:
    """Serialized records -> groups of records (string [R]) that each fit the budget; no record is lost or reordered."""
    end_mark = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))
    chunks = dataset.batch(CHUNK).concatenate(end_mark)

    def scan(queue: tuple[tf.Tensor, tf.Tensor], chunk: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
        left, sizes = queue[0], tf.concat([queue[1], records.list_sizes(chunk)], axis=0)
        fits = tf.debugging.Assert(tf.reduce_all(sizes <= budget.items), ["a list is longer than --batch_items"])
        with tf.control_dependencies([fits]):
            starts, stops = _cut(sizes, budget, final=tf.equal(tf.size(chunk), 0))
        used = tf.reduce_max(tf.concat([[0], stops], axis=0))
        first, rest = _share(left, chunk, starts, stops)
        return (rest, sizes[used:]), (first, chunk, starts - tf.size(left), stops - tf.size(left))

    def cut(first: tf.Tensor, chunk: tf.Tensor, starts: tf.Tensor, stops: tf.Tensor) -> tf.data.Dataset:
        ends = tf.data.Dataset.from_tensor_slices((starts, stops))
        return tf.data.Dataset.zip((ends, tf.data.Dataset.from_tensors((first, chunk)).repeat()))

    def group(ends: tuple[tf.Tensor, tf.Tensor], found: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return tf.cond(ends[0] < 0, lambda: found[0], lambda: found[1][ends[0] : ends[1]])

    empty = tf.zeros([0], tf.string), tf.zeros([0], tf.int64)
    return chunks.scan(empty, _plain(scan)).flat_map(_plain(cut)).map(_plain(group))


class _Rows:
    """Pads tensors to a number of rows; what all of them need is computed once. Without a number nothing is padded."""

    def __init__(self, count: tf.Tensor, rows: int | None) -> None:
        self.rows = rows
        self._missing = None if rows is None else {rank: tf.pad([[0, rows - count]], [[0, rank - 1], [0, 0]]) for rank in (1, 2)}

    def pad(self, values: tf.Tensor, fill: int = 0) -> tf.Tensor:
        """`[count, ...]` -> `[rows, ...]`, the rows after the first `count` being `fill`, or empty strings."""
        if self._missing is None:
            return values
        constant = "" if values.dtype == tf.string else tf.constant(fill, values.dtype)
        padded = tf.pad(values, self._missing[values.shape.rank], constant_values=constant)
        padded.set_shape([self.rows, *values.shape[1:]])
        return padded


def _places(lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each value of bags of some `lengths`: number of its bag and place in it, int32 `[sum(lengths)]`.

    Both halves of one int64 range per bag, which takes half the time of `tf.repeat`.
    """
    first = tf.bitwise.left_shift(tf.range(tf.size(lengths, tf.int64)), tf.constant(32, tf.int64))
    found = tf.raw_ops.RaggedRange(starts=first, limits=first + tf.cast(lengths, tf.int64), deltas=tf.constant(1, tf.int64))
    halves = tf.bitcast(found.rt_dense_values, tf.int32)
    low, high = (0, 1) if sys.byteorder == "little" else (1, 0)
    return halves[:, high], halves[:, low]


def bag_room(count: tf.Tensor) -> tf.Tensor:
    """The least of 256, 320, 384, 448, 512, 640, ... (four sizes per doubling) that is at least `count`: int32 scalars.

    On average it is 9 % more than `count`, at most 25 % (from 256 on).
    """
    doublings = tf.math.ceil(tf.math.log(tf.cast(tf.maximum(count, 257), tf.float64)) / tf.math.log(tf.constant(2.0, tf.float64)))
    step = tf.bitwise.left_shift(1, tf.cast(doublings, tf.int32) - 3)
    return tf.maximum(-(-count // step) * step, 256)


def assemble(spec: FeatureSpec, columns: records.Tensors, budget: Budget | None = None) -> Batch:
    """Turns decoded columns into a batch; with a budget all item axes have `items` rows and list axes `lists` rows."""
    layout = records.Layout.of(spec)
    sizes = tf.cast(columns["list_size"], tf.int32)
    list_index, item_offset = _places(sizes)
    items = _Rows(tf.size(list_index), None if budget is None else budget.items)
    lists = _Rows(tf.size(sizes), None if budget is None else budget.lists)
    of_items = ("item", "labels", "delay", "popularity", "item_num", *(f"cat/{name}" for name in layout.item_cat))
    of_lists = ("search_id", "time", "context_num", *(f"cat/{name}" for name in layout.context_cat))
    batch: Batch = {
        "list_index": items.pad(list_index, 0 if budget is None else budget.lists - 1),
        "item_mask": items.pad(tf.ones_like(list_index, tf.float32)),
        "item_offset": items.pad(item_offset),
        "position": items.pad(tf.cast(columns["position"], tf.int32)),
        **{key: items.pad(columns[key]) for key in of_items},
    }
    for name in layout.context_ragged + layout.item_ragged:
        values, bags = columns[f"ragged/{name}/values"], _places(columns[f"ragged/{name}/lengths"])[0]
        if budget is not None and budget.pad_bags:
            missing = [[0, bag_room(tf.size(values)) - tf.size(values)]]
            values, bags = tf.pad(values, missing, constant_values=transforms.PAD), tf.pad(bags, missing, constant_values=-1)
        batch[f"ragged/{name}/values"], batch[f"ragged/{name}/rows"] = values, bags
    histories = {key: value for name in layout.sequences for key, value in _history(spec, name, columns, lists.rows).items()}
    return {**batch, "list_size": lists.pad(sizes), **{key: lists.pad(columns[key]) for key in of_lists}, **histories}


def _history(spec: FeatureSpec, name: str, columns: records.Tensors, rows: int | None) -> Batch:
    """A sequence's parts as matrices `[rows, length]`, padded with 0; as many rows as lists without a number."""
    history = spec.features[name].history
    assert history is not None
    splits = tf.concat([tf.constant([0], tf.int64), tf.cumsum(columns[f"seq/{name}/lengths"])], axis=0)
    made = {}
    for key in (f"seq/{name}/{part}" for part in ("item", "action", "age")):
        ragged = tf.RaggedTensor.from_row_splits(columns[key], splits, validate=False)
        made[key] = ragged.to_tensor(shape=[rows, history.length])
    return made


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Spares tf.data the conversion by AutoGraph: nothing here branches on a tensor in Python, and tracing takes half the time."""
    return tf.autograph.experimental.do_not_convert(function)


def batches(
    spec: FeatureSpec, files: Sequence[str], budget: Budget, shuffle: Shuffle | None = None, parallel: int = 2, skip: int = 0
) -> tf.data.Dataset:
    """One pass over record files as static-shape batches. Decoding runs in `parallel` threads and keeps the order.

    The first `skip` batches are left out without being decoded: their records are only read, shuffled and counted.
    """

    def decode(serialized: tf.Tensor) -> Batch:
        return assemble(spec, records.parse(spec, serialized), budget)

    dataset = pack(read_records(files, shuffle), budget).skip(skip)
    return dataset.map(_plain(decode), num_parallel_calls=parallel, deterministic=True).prefetch(4)


def dummy_batch(spec: FeatureSpec, lists: int = 1, length: int = 1, bag: int = 1, budget: Budget | None = None) -> Batch:
    """A batch of `lists` lists of `length` items, all values unseen, `bag` ids in a bag, one event in a history: enough to build a model's
    variables and to trace functions."""
    layout = records.Layout.of(spec)
    items = lists * length
    bags = {**dict.fromkeys(layout.context_ragged, lists), **dict.fromkeys(layout.item_ragged, items)}
    unseen = np.full(lists, transforms.UNSEEN)
    columns = records.ListColumns(
        search_id=np.full(lists, b"", object),
        time=np.zeros(lists, np.int64),
        lengths=np.full(lists, length),
        item=np.full(items, transforms.FIRST_ID),
        position=np.tile(np.arange(1, length + 1), lists),
        labels=np.zeros((items, len(layout.tasks)), np.int64),
        delay=np.full((items, len(layout.tasks)), -1),
        popularity=np.zeros(items, np.float32),
        context_num=np.full((lists, len(layout.context_num)), transforms.UNSEEN_VALUE, np.float32),
        item_num=np.full((items, len(layout.item_num)), transforms.UNSEEN_VALUE, np.float32),
        cat={**dict.fromkeys(layout.context_cat, unseen), **dict.fromkeys(layout.item_cat, np.full(items, transforms.UNSEEN))},
        bags={name: records.Bag(np.full(count * bag, transforms.UNSEEN), np.full(count, bag)) for name, count in bags.items()},
        sequences=dict.fromkeys(
            layout.sequences, records.Histories(unseen, unseen, np.zeros(lists, np.float32), np.ones(lists, np.int64))
        ),
    )
    return assemble(spec, records.parse(spec, tf.constant(records.encode(spec, columns))), budget)
