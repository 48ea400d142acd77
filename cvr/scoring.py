"""Scores of whole splits: a ranker over record files, gathered into NumPy columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cvr.data import Batch, Budget, batches, split_files
from cvr.errors import CvrError
from cvr.manifest import Manifest, load_manifest
from cvr.metrics import rank_metrics, tie_breaker
from cvr.ranker import Ranker
from cvr.reading import iterate
from cvr.schema import FeatureSpec


@dataclasses.dataclass(frozen=True)
class ScoredLists:
    """Q lists with N items in all: `scores` float32 and `labels` `[N, T]`, items in display order, lists in file order."""

    search_id: np.ndarray
    time: np.ndarray
    lengths: np.ndarray
    item: np.ndarray
    position: np.ndarray
    popularity: np.ndarray
    labels: np.ndarray
    delay: np.ndarray
    scores: np.ndarray

    def of_lists(self, keep: np.ndarray) -> ScoredLists:
        """Those lists where `keep` (bool `[Q]`) holds."""
        by_list = ("search_id", "time", "lengths")
        items = np.repeat(keep, self.lengths)
        return ScoredLists(**{
            field.name: getattr(self, field.name)[keep if field.name in by_list else items] for field in dataclasses.fields(self)
        })


def compile_scorer(ranker: Ranker) -> Callable[[Batch], tf.Tensor]:
    """The ranker as one compiled function; make it once and reuse it."""
    return tf.function(lambda batch: ranker(batch, training=False), autograph=False, reduce_retracing=True)


def score_files(
    scorer: Callable[[Batch], tf.Tensor], spec: FeatureSpec, files: Sequence[str], budget: Budget
) -> ScoredLists:
    """Scores every list of the files. Raises CvrError naming a file and record that cannot be read."""
    columns: dict[str, list[np.ndarray]] = {field.name: [] for field in dataclasses.fields(ScoredLists)}
    for batch in iterate(batches(spec, files, budget), spec, files):
        items = batch["item_mask"].numpy() > 0
        lists = batch["list_size"].numpy() > 0
        columns["scores"].append(scorer(batch).numpy()[items])
        columns["lengths"].append(batch["list_size"].numpy()[lists])
        for key in ("item", "position", "popularity", "labels", "delay"):
            columns[key].append(batch[key].numpy()[items])
        for key in ("search_id", "time"):
            columns[key].append(batch[key].numpy()[lists])
    return ScoredLists(**{name: np.concatenate(parts) for name, parts in columns.items()})


def score_split(ranker: Ranker, spec: FeatureSpec, folder: str, split: str, batch_items: int) -> tuple[ScoredLists, Manifest]:
    """All lists of a split under `folder`, and its manifest. Raises CvrError where the lists were built with another spec than `spec`."""
    manifest = load_manifest(folder)
    files = split_files(folder, manifest, [split])
    if spec.fingerprint != manifest.spec_fingerprint:
        raise CvrError(f"the run was trained with another feature spec than the lists in {folder} hold; rebuild one of them")
    budget = Budget.for_manifest(manifest, [split], max(batch_items, manifest.split(split).max_list_size))
    return score_files(compile_scorer(ranker), spec, files, budget), manifest


def mean_average_precision(scored: ScoredLists, tasks: Sequence[str]) -> dict[str, float]:
    """mAP by task over the lists that have a positive of it; a task without any is left out."""
    ties, values = tie_breaker(scored.item), {}
    for place, task in enumerate(tasks):
        precision = rank_metrics(scored.scores[:, place], scored.labels[:, place], scored.lengths, ties).map
        if not np.all(np.isnan(precision)):
            values[task] = float(np.nanmean(precision))
    return values
