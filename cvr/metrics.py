"""Ranking metrics per list, and bootstrap intervals of their means. NumPy, exact, vectorised over all lists."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

METRICS = ("map", "mrr", "ndcg_at_10", "gauc")


@dataclasses.dataclass(frozen=True)
class Ranked:
    """One metric value per list `[Q]`; NaN where a metric is not defined (no positive; for gauc also no negative)."""

    map: np.ndarray
    mrr: np.ndarray
    ndcg_at_10: np.ndarray
    gauc: np.ndarray


def tie_breaker(item: np.ndarray) -> np.ndarray:
    """A fixed pseudo-random order of items, uint64: equal scores are ranked by it, so neither display order nor label helps."""
    mixed = item.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def rank_metrics(scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, ties: np.ndarray) -> Ranked:
    """Metrics of Q lists laid one after the other.

    Args:
      scores: float `[N]`, higher ranks first; ties fall in the order of `ties`.
      labels: `[N]`, positive where > 0.
      lengths: items per list `[Q]`, all at least 1.
      ties: `[N]`, see `tie_breaker`.

    AP = sum_k precision@k * positive@k / positives (paper section 4, PAPERS R41), RR = 1 / rank of the first positive,
    NDCG@10 with gain 1 per positive and discount log2(1 + rank), AUC = P(positive above negative), ties counting a half, per list.
    """
    if not len(lengths):
        empty = np.zeros(0)
        return Ranked(empty, empty, empty, empty)
    lists = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    order = np.lexsort((ties, -scores, lists))
    relevant = (labels[order] > 0).astype(np.float64)
    rank = np.arange(len(scores)) - np.repeat(starts, lengths) + 1.0
    found = np.cumsum(relevant)
    found -= np.repeat(found[starts] - relevant[starts], lengths)
    positives = np.add.reduceat(relevant, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        average_precision = np.add.reduceat(relevant * found / rank, starts) / positives
        reciprocal = np.maximum.reduceat(relevant / rank, starts)
        gains = np.where(rank <= 10, relevant / np.log2(1.0 + rank), 0.0)
        ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, 12)))])
        ndcg = np.add.reduceat(gains, starts) / ideal[np.minimum(positives, 10).astype(int)]
    defined = positives > 0
    return Ranked(
        map=np.where(defined, average_precision, np.nan),
        mrr=np.where(defined, reciprocal, np.nan),
        ndcg_at_10=np.where(defined, ndcg, np.nan),
        gauc=_auc(scores, labels > 0, lists, lengths),
    )


def _auc(scores: np.ndarray, positive: np.ndarray, lists: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    order = np.lexsort((scores, lists))
    starts = np.cumsum(lengths) - lengths
    rank = np.arange(len(scores)) - np.repeat(starts, lengths) + 1.0
    new_run = np.ones(len(scores), bool)
    new_run[1:] = (np.diff(scores[order]) != 0) | (np.diff(lists[order]) != 0)
    run = np.cumsum(new_run) - 1
    mean_rank = (np.bincount(run, weights=rank) / np.bincount(run))[run]
    positive = positive[order].astype(np.float64)
    positives = np.add.reduceat(positive, starts)
    negatives = lengths - positives
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (np.add.reduceat(positive * mean_rank, starts) - positives * (positives + 1) / 2) / (positives * negatives)
    return np.where((positives > 0) & (negatives > 0), auc, np.nan)


def mean_interval(values: np.ndarray, seed: int = 0, replicates: int = 1000) -> tuple[float, tuple[float, float]]:
    """Mean over the lists where the metric is defined, and its 95 % percentile bootstrap interval over lists.

    (NaN, (NaN, NaN)) without any defined list; an interval of width 0 with just one.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), (float("nan"), float("nan"))
    mean = float(defined.mean())
    if len(defined) == 1:
        return mean, (mean, mean)
    batch = max(1, 20_000_000 // len(defined))
    result = stats.bootstrap(
        (defined,), np.mean, n_resamples=replicates, batch=batch, method="percentile", rng=np.random.default_rng(seed)
    )
    return mean, (float(result.confidence_interval.low), float(result.confidence_interval.high))
