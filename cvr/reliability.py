"""How far probabilities are to be believed: calibration error, slope and intercept, proper scores, with bootstrap intervals over lists."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy.special import expit, logit

from cvr.calibration import logistic_line
from cvr.links import SMALLEST

BINS = 20
MEASURES = ("ece", "slope", "intercept", "brier", "log_loss", "mean_predicted", "observed", "predicted_to_observed")
Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Measures with their intervals (`summary`), and per bin the items, mean prediction, observed share and its 95 % interval."""

    summary: dict[str, Any]
    items: Array
    predicted: Array
    observed: Array
    low: Array
    high: Array


def equal_mass_bins(probability: Array, bins: int) -> Array:
    """The bin of each item `[N]`: edges at the quantiles of its probability, equal ones in one bin; bins without an item are left out."""
    edges = np.percentile(probability, 100 * np.linspace(0, 1, bins + 1))
    return np.unique(np.searchsorted(edges[1:-1], probability), return_inverse=True)[1]


def reliability(labels: Array, probability: Array, lengths: Array, replicates: int = 1000, seed: int = 0, bins: int = BINS) -> Reliability:
    """Measures of probabilities `[N]` against labels `[N]` (positive where > 0), lists of `lengths` `[Q]` laid one after the other.

        ece                    sum_b n_b / N |mean p - mean y in bin b|, over equal-mass bins
        ece_if_calibrated      what ece would be on average if every p were exact: sum_b sqrt(2 / pi sum p (1 - p) in bin b) / N
        slope, intercept       of the logistic regression of y on log(p / (1 - p)); 1 and 0 where p is calibrated
        brier, log_loss        mean (p - y)^2, mean -log of the probability given to what happened
        mean_predicted, observed, predicted_to_observed    mean p, mean y, their ratio

    Each `_ci` is a 95 % percentile bootstrap interval over whole lists, as items of a list are not independent; bins stay those of all
    items, and slope and intercept take one Newton step from their values on all items. Both of ece's numbers hold noise, the interval
    twice of it: compare ece with ece_if_calibrated, not with 0. NaN where a measure is not defined.
    """
    y, p = (labels > 0).astype(np.float64), np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST)
    place = equal_mass_bins(p, bins)
    line = logistic_line(logit(p), y)
    sums = np.concatenate([_item_sums(y, p, line, lengths), _bin_sums(y, p, place, lengths)], axis=1)
    whole, drawn = _measures(sums.sum(axis=0, keepdims=True), line), _bootstrap(sums, line, replicates, seed)
    summary: dict[str, Any] = {"bins": int(place.max()) + 1}
    for name in MEASURES:
        summary[name] = float(whole[name][0])
        summary[f"{name}_ci"] = np.percentile(drawn[name], [2.5, 97.5]).tolist()
    summary["ece_if_calibrated"] = float(np.sqrt(2 / np.pi * np.bincount(place, weights=p * (1 - p))).sum() / len(p))
    count, predicted, observed = np.split(sums[:, _ITEM_SUMS:].sum(axis=0), 3)
    low, high = np.nanpercentile(drawn["by_bin"], [2.5, 97.5], axis=0)
    return Reliability(summary, count.astype(int), predicted / count, observed / count, low, high)


_ITEM_SUMS = 10


def _item_sums(y: Array, p: Array, line: tuple[float, float], lengths: Array) -> Array:
    """Per list `[Q, 10]`: n, y, p, squared error, log loss, gradient (2) and Hessian (3) of the line's log-likelihood."""
    z = logit(p)
    at_line = expit(line[0] * z + line[1])
    error, weight = y - at_line, at_line * (1 - at_line)
    log_score = -np.where(y > 0, np.log(p), np.log1p(-p))
    columns = [np.ones_like(y), y, p, (p - y) ** 2, log_score, error, error * z, weight, weight * z, weight * z**2]
    return np.add.reduceat(np.stack(columns, axis=1), np.cumsum(lengths) - lengths)


def _bin_sums(y: Array, p: Array, place: Array, lengths: Array) -> Array:
    """Per list and bin `[Q, 3 B]`: n, p and y."""
    bins = int(place.max()) + 1
    cell = np.repeat(np.arange(len(lengths)), lengths) * bins + place
    parts = [np.bincount(cell, weights=w, minlength=len(lengths) * bins) for w in (None, p, y)]
    return np.concatenate([part.reshape(len(lengths), bins) for part in parts], axis=1)


def _measures(totals: Array, line: tuple[float, float]) -> dict[str, Array]:
    """Every measure `[R]` of R sets of summed columns, and the observed share `by_bin` `[R, B]`."""
    n, y, p, squares, log_score, g0, g1, h00, h01, h11 = totals[:, :_ITEM_SUMS].T
    count, predicted, observed = np.split(totals[:, _ITEM_SUMS:], 3, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = h00 * h11 - h01**2
        return {
            "ece": np.abs(predicted - observed).sum(axis=1) / n,
            "slope": line[0] + (h00 * g1 - h01 * g0) / determinant,
            "intercept": line[1] + (h11 * g0 - h01 * g1) / determinant,
            "brier": squares / n,
            "log_loss": log_score / n,
            "mean_predicted": p / n,
            "observed": y / n,
            "predicted_to_observed": np.where(y > 0, p / y, np.nan),
            "by_bin": observed / count,
        }


def _bootstrap(sums: Array, line: tuple[float, float], replicates: int, seed: int) -> dict[str, Array]:
    """The measures of `replicates` draws of as many lists, with replacement."""
    source, lists = np.random.default_rng(seed), len(sums)
    parts = []
    for start in range(0, replicates, max(1, 20_000_000 // lists)):
        rows = min(replicates - start, max(1, 20_000_000 // lists))
        drawn = np.stack([np.bincount(source.integers(0, lists, lists), minlength=lists) for _ in range(rows)])
        parts.append(_measures(drawn.astype(np.float64) @ sums, line))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
