"""What smaller weights do to a ranker's scores and to its mAP: the report beside an export that rounds (`export.storage`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from cvr.metrics import mean_interval, rank_metrics, tie_breaker
from cvr.scoring import ScoredLists


def compare_scores(before: ScoredLists, after: ScoredLists, tasks: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """By task, over the same lists scored twice:

    max_abs_diff, mean_abs_diff   of the logits
    kendall                       mean over lists of 2 or more items of tau-b between the two orders
    top1                          share of lists whose first item is the same
    map_before, map_after, map_difference [mean, low, high]   over lists with a positive; 95 % paired bootstrap over lists
    """
    if not (np.array_equal(before.item, after.item) and np.array_equal(before.lengths, after.lengths)):
        raise ValueError("the two sides hold other lists")
    ties = tie_breaker(before.item)
    return {task: _compare(before, after, place, ties) for place, task in enumerate(tasks)}


def _compare(before: ScoredLists, after: ScoredLists, place: int, ties: np.ndarray) -> dict[str, Any]:
    left, right, labels = before.scores[:, place], after.scores[:, place], before.labels[:, place]
    gaps = np.abs(left.astype(np.float64) - right)
    ap = [rank_metrics(scores, labels, before.lengths, ties).map for scores in (left, right)]
    difference, (low, high) = mean_interval(ap[1] - ap[0])
    return {
        "max_abs_diff": float(gaps.max()),
        "mean_abs_diff": float(gaps.mean()),
        "kendall": _kendall(left, right, before.lengths),
        "top1": float(np.mean(_first(left, before.lengths, ties) == _first(right, before.lengths, ties))),
        "map_before": float(np.nanmean(ap[0])),
        "map_after": float(np.nanmean(ap[1])),
        "map_difference": [difference, low, high],
    }


def _kendall(left: np.ndarray, right: np.ndarray, lengths: np.ndarray) -> float:
    cuts = np.cumsum(lengths)[:-1]
    pairs = zip(np.split(left, cuts), np.split(right, cuts), strict=True)
    values = [1.0 if np.array_equal(a, b) else stats.kendalltau(a, b).statistic for a, b in pairs if len(a) > 1]
    return float(np.nanmean(values)) if values else float("nan")


def _first(scores: np.ndarray, lengths: np.ndarray, ties: np.ndarray) -> np.ndarray:
    lists = np.repeat(np.arange(len(lengths)), lengths)
    return np.lexsort((ties, -scores, lists))[np.cumsum(lengths) - lengths]


def table(report: Mapping[str, Any]) -> str:
    """The report as lines to print."""
    size = report["bytes"]
    totals = [sum(size[when].values()) for when in ("before", "after")]
    lines = [
        f"stored: tables {report['storage']['tables']}, weights {report['storage']['weights']}; bytes {totals[0]} -> {totals[1]}"
        f" (tables {size['before']['tables']} -> {size['after']['tables']})"
    ]
    for task, values in report.get("tasks", {}).items():
        mean, low, high = values["map_difference"]
        lines.append(
            f"{task}: logits differ by at most {values['max_abs_diff']:.2e}, on average {values['mean_abs_diff']:.2e}; "
            f"Kendall {values['kendall']:.4f}, same first item {values['top1']:.2%}; "
            f"mAP {values['map_before']:.4f} -> {values['map_after']:.4f} ({mean:+.5f} [{low:+.5f}, {high:+.5f}])"
        )
    return "\n".join(lines)
