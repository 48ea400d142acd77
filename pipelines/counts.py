"""Counts of a build: nested dicts of numbers that workers fill and that merge in any order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Counts = dict[str, Any]

_EXTREMES: dict[str, Any] = {"first_time": min, "last_time": max, "max_list_size": max}


def merge(left: Counts, right: Counts) -> Counts:
    """Both together: numbers add up, lists join; of `first_time` the least stays, of `last_time` and `max_list_size` the greatest."""
    merged = dict(left)
    for key, value in right.items():
        if key not in merged or merged[key] is None:
            merged[key] = value
        elif value is not None:
            merged[key] = _merge_value(str(key), merged[key], value)
    return merged


def _merge_value(key: str, left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        return merge(left, right)
    if isinstance(left, list) or key not in _EXTREMES:
        return left + right
    return _EXTREMES[key](left, right)


def merge_all(parts: Iterable[Counts]) -> Counts:
    """All parts together; {} without any. Usable as a Beam combiner."""
    total: Counts = {}
    for part in parts:
        total = merge(total, part)
    return total


def tally(values: np.ndarray) -> Counts:
    """How often each integer occurs, as {"value": count}; keys are text because JSON's are."""
    if len(values) and 0 <= int(values.min()) and int(values.max()) < 100_000:
        times = np.bincount(values)
        found = np.flatnonzero(times)
        times = times[found]
    else:
        found, times = np.unique(values, return_counts=True)
    return {str(int(value)): int(count) for value, count in zip(found, times, strict=True)}


def delay_histogram(delays: np.ndarray) -> Counts:
    """Delays in ms (>= 0) in logarithmic bins, ten per decade: {"upper edge in ms": count}; an instant one counts under "0".

    The bin of d > 0 is k = ceil(10 * log10(d)), and its upper edge is 10^(k / 10).
    """
    bins = np.ceil(10 * np.log10(np.maximum(delays, 1).astype(np.float64)) - 1e-9).astype(np.int64)
    edges = np.where(delays > 0, np.rint(10.0 ** (bins / 10)), 0).astype(np.int64)
    return tally(edges)
