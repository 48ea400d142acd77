"""A random sample of a split's lists, read once and held in memory as batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cvr import records
from cvr.data import Batch, Budget, assemble, pack, read_records, split_files
from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.metrics import rank_metrics, tie_breaker
from cvr.reading import iterate
from cvr.schema import FeatureSpec
from tools.permutation.columns import Columns, Extent, extents

_CHUNK = 1024
_NOT_READ = ("search_id", "time", "labels", "delay", "popularity", "position")
"""Parts of a batch that no model reads."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """What is drawn: at most `lists` lists of a split with a positive of the task, by a seed, in batches of `batch_items` items."""

    folder: str
    split: str
    task: str
    lists: int
    seed: int = 0
    batch_items: int = 4096


@dataclasses.dataclass(frozen=True)
class Sample:
    """Q lists with I items in all: batches (less what no model reads), where each stands, and `[Q]`, `[I]` arrays over all of them."""

    spec: FeatureSpec
    task: str
    about: dict[str, Any]
    batches: list[Batch]
    extents: list[Extent]
    columns: Columns
    lengths: np.ndarray
    item: np.ndarray
    labels: np.ndarray

    @property
    def list_of_item(self) -> np.ndarray:
        """Number of each item's list, int `[I]`."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def precision(self, scores: np.ndarray) -> np.ndarray:
        """Average precision of each list `[Q]` by scores `[I]`."""
        return rank_metrics(scores, self.labels, self.lengths, tie_breaker(self.item)).map


def draw_sample(spec: FeatureSpec, what: Draw) -> Sample:
    """Reads the sample. Raises CvrError for lists of another spec, an unknown task, and fewer than two lists with a positive of it."""
    manifest = load_manifest(what.folder)
    if spec.fingerprint != manifest.spec_fingerprint:
        raise CvrError(f"the run was trained with another feature spec than the lists in {what.folder} hold; rebuild one of them")
    if what.task not in spec.task_names:
        raise CvrError(f"--task={what.task}: the lists have no such task; there are {', '.join(spec.task_names)}")
    files = split_files(what.folder, manifest, [what.split])
    split = manifest.split(what.split)
    kept = _drawn(spec, files, what, split.lists)
    if len(kept) < 2:
        found = f"{len(kept)} of {split.lists} lists have a positive of task {what.task}"
        raise CvrError(f"--split={what.split}: {found}; at least 2 are needed")
    about = {"split": what.split, "lists": len(kept), "lists_in_split": split.lists, "data": manifest.data_fingerprint()}
    budget = Budget.for_mean(max(what.batch_items, split.max_list_size), split.items / split.lists)
    return _assembled(spec, what.task, kept, budget, about)


def _drawn(spec: FeatureSpec, files: list[str], what: Draw, total: int) -> list[bytes]:
    """Records of the lists with the smallest of as many random numbers as the split has lists, in file order."""
    place = spec.task_names.index(what.task)
    keys = np.random.default_rng(what.seed).random(total)

    def positives(serialized: tf.Tensor) -> Batch:
        found = records.parse(spec, serialized)
        lists = tf.repeat(tf.range(tf.size(serialized)), found["list_size"])
        return {"record": serialized, "positives": tf.math.unsorted_segment_sum(found["labels"][:, place], lists, tf.size(serialized))}

    kept: dict[int, bytes] = {}
    start = 0
    for chunk in iterate(read_records(files).batch(_CHUNK).map(positives), spec, files):
        texts = chunk["record"].numpy()
        kept.update({start + int(at): texts[at] for at in np.flatnonzero(chunk["positives"].numpy() > 0)})
        start += len(texts)
        if len(kept) > 2 * what.lists:
            kept = _least(kept, keys, what.lists)
    return list(_least(kept, keys, what.lists).values())


def _least(kept: dict[int, bytes], keys: np.ndarray, count: int) -> dict[int, bytes]:
    chosen = sorted(kept, key=lambda number: keys[number])[:count]
    return {number: kept[number] for number in sorted(chosen)}


def _assembled(spec: FeatureSpec, task: str, kept: list[bytes], budget: Budget, about: dict[str, Any]) -> Sample:
    place = spec.task_names.index(task)
    packed = pack(tf.data.Dataset.from_tensor_slices(kept), budget)
    whole = list(packed.map(lambda serialized: assemble(spec, records.parse(spec, serialized), budget)))
    found = extents(whole)
    batches = [{key: value for key, value in batch.items() if key not in _NOT_READ} for batch in whole]

    def real(key: str, level: str) -> np.ndarray:
        return np.concatenate([rows for rows in _rows(whole, found, key, level)])

    return Sample(
        spec=spec,
        task=task,
        about={**about, "items": found[-1].items.stop},
        batches=batches,
        extents=found,
        columns=Columns(spec, batches, found),
        lengths=real("list_size", "context"),
        item=real("item", "item"),
        labels=real("labels", "item")[:, place],
    )


def _rows(batches: list[Batch], places: list[Extent], key: str, level: str) -> Iterator[np.ndarray]:
    for batch, extent in zip(batches, places, strict=True):
        found = extent.of(level)
        yield batch[key].numpy()[: found.stop - found.start]
