"""How far feature distributions of days and splits lie apart, beside how far chance alone puts them.

The divergence of distributions p and q is Jensen and Shannon's in bits, JS = H((p + q)/2) - (H(p) + H(q))/2, 0 to 1. For samples of n and
m from one distribution over K bins 8 ln(2) JS / (1/n + 1/m) is about chi-square of K - 1 degrees of freedom (JS is half of a G-test's
statistic, to second order), so chance gives (K - 1)(1/n + 1/m) / (8 ln 2). Lists are not independent either: a customer's lists are alike,
and partitions hold whole customers. So n and m are numbers of lists over the design effect d, which the data tell: d is the divergence of
the even from the odd partitions of a sample over what chance gives at d = 1 (never less than 1, and 1 where there is one partition).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2

from pipelines.validation.merging import Partial
from pipelines.validation.profile import POPULARITY
from pipelines.validation.results import Check, Figures, Thresholds, judged
from pipelines.validation.sketches import IdSketch, NumberSketch

NUMBER_BINS = 20
MIN_EXPECTED = 5.0
"""Bins of which the smaller sample expects fewer values become one (Cochran's rule)."""
ALPHA = 0.001
"""Probability of calling any comparison of a run significant by chance."""


@dataclasses.dataclass(frozen=True)
class Divergence:
    """A comparison: `js` in bits, `expected` of it by chance, `p` (value) of the excess, `psi` = sum((p - q) ln(p/q))."""

    js: float
    expected: float
    p: float
    psi: float


@dataclasses.dataclass(frozen=True)
class Drift:
    """A feature's divergence between `first` and `second`; `kind` is `next day`, `other days`, `split` or `baseline`."""

    feature: str
    kind: str
    first: str
    second: str
    found: Divergence

    def large(self, threshold: float, comparisons: int) -> bool:
        """Whether it is above chance by more than the threshold, and significant among so many comparisons."""
        return self.found.js - self.found.expected > threshold and self.found.p < ALPHA / max(1, comparisons)


def compare(left: np.ndarray, right: np.ndarray, lists: tuple[float, float]) -> Divergence | None:
    """Divergence of two histograms [K] over the same bins, of so many independent observations each; None where one is empty."""
    if not left.sum() or not right.sum() or min(lists) < 1:
        return None
    p, q = left / left.sum(), right / right.sum()
    rare = (p * lists[0] + q * lists[1]) / sum(lists) * min(lists) < MIN_EXPECTED
    p, q = (np.append(share[~rare], share[rare].sum()) for share in (p, q))
    used = p + q > 0
    p, q = p[used], q[used]
    js = float(np.nan_to_num(jensenshannon(p, q, base=2))) ** 2
    scale, freedom = 8 * math.log(2) / (1 / lists[0] + 1 / lists[1]), max(len(p) - 1, 0)
    least = 0.5 / max(lists)
    ratio = np.log(np.maximum(p, least) / np.maximum(q, least))
    significance = float(chi2.sf(scale * js, freedom)) if freedom else 1.0
    return Divergence(js, freedom / scale, significance, float(((p - q) * ratio).sum()))


def _number_table(sketches: Sequence[NumberSketch]) -> np.ndarray:
    """Counts of each sketch over common bins: quantile bins of all numbers together, and one of the missing. [S, 21]."""
    total = functools.reduce(NumberSketch.merge, sketches)
    before = np.cumsum(total.counts) - total.counts
    bins = NUMBER_BINS * before // max(1, int(total.counts.sum()))
    table = np.zeros((len(sketches), NUMBER_BINS + 1))
    for row, sketch in zip(table, sketches, strict=True):
        np.add.at(row, bins[np.searchsorted(total.keys, sketch.keys)], sketch.counts)
        row[-1] = sketch.moments.missing
    return table


def _tables(partials: Sequence[Partial]) -> Iterator[tuple[str, np.ndarray, list[float]]]:
    """(feature, counts by partial and bin, share of values that are seen by partial) of each feature that all partials have."""
    for name in partials[0]["numbers"]:
        if name != POPULARITY and all(name in partial["numbers"] for partial in partials):
            numbers: list[NumberSketch] = [partial["numbers"][name] for partial in partials]
            yield name, _number_table(numbers), [sketch.seen for sketch in numbers]
    for name in partials[0]["ids"]:
        if all(name in partial["ids"] for partial in partials):
            ids: list[IdSketch] = [partial["ids"][name] for partial in partials]
            yield (
                name,
                np.stack([[*sketch.buckets, sketch.empty, sketch.unknown] for sketch in ids]),
                [sketch.seen for sketch in ids],
            )


def design_effects(halves: Sequence[Partial]) -> dict[str, float]:
    """The design effect of each feature from two halves of a sample; {} where one half is empty."""
    if len(halves) < 2:
        return {}
    found: dict[str, float] = {}
    for feature, counts, seen in _tables(halves):
        lists = [partial["lists"] * share for partial, share in zip(halves, seen, strict=True)]
        divergence = compare(counts[0], counts[1], (lists[0], lists[1]))
        if divergence and divergence.expected:
            found[feature] = max(1.0, divergence.js / divergence.expected)
    return found


def _average(effects: Sequence[dict[str, float]]) -> dict[str, float]:
    names = {name for found in effects for name in found}
    return {name: float(np.mean([found[name] for found in effects if name in found])) for name in names}


Effects = Sequence[dict[str, float]]
"""Design effects by feature of each sample that is compared."""


def between(samples: dict[str, Partial], kind: str, effects: Effects, min_lists: int) -> list[Drift]:
    """Every pair of neighbours, and for `next day` also each against all others; samples of fewer lists are left out."""
    if len(samples) < 2:
        return []
    names = list(samples)
    found: list[Drift] = []
    for feature, counts, seen in _tables(list(samples.values())):
        lists = np.array([partial["lists"] for partial in samples.values()]) * seen
        used = np.flatnonzero(lists >= min_lists)
        sizes = lists / [effect.get(feature, 1.0) for effect in effects]
        pairs = [(kind, a, names[b], counts[b], sizes[b]) for a, b in zip(used, used[1:], strict=False)]
        if kind == "next day" and len(used) > 2:
            others = counts[used].sum(axis=0), sizes[used].sum()
            pairs += [("other days", a, "the other days", others[0] - counts[a], others[1] - sizes[a]) for a in used]
        for what, first, second, right, size in pairs:
            divergence = compare(counts[first], right, (sizes[first], size))
            if divergence:
                found.append(Drift(feature, what, names[first], second, divergence))
    return found


def drift_of(figures: Figures, min_lists: int) -> dict[str, list[Drift]]:
    """Drift between the days of each split, and of the training split against each other one (`train, test`)."""
    found: dict[str, list[Drift]] = {}
    for split in figures.splits:
        days = figures.read_days(split)
        effects = _average(
            [
                design_effects(figures.halves(split, day))
                for day, partial in days.items()
                if partial["lists"] >= min_lists
            ]
        )
        found[split] = between(days, "next day", [effects] * len(days), min_lists)
    for split in figures.splits:
        if split != "train" and "train" in figures.splits:
            pair = {name: figures.whole(name) for name in ("train", split)}
            found[f"train, {split}"] = between(
                pair, "split", [design_effects(figures.halves(name)) for name in pair], min_lists
            )
    return found


def drift_checks(found: dict[str, list[Drift]], thresholds: Thresholds, area: str = "drift") -> list[Check]:
    """One check per kind of comparison; examples are the worst comparison of each feature, the largest first."""
    checks = []
    comparisons = sum(map(len, found.values()))
    for group, drifts in found.items():
        large: dict[str, tuple[float, str]] = {}
        for drift in drifts:
            if drift.large(thresholds.drift, comparisons):
                d = drift.found
                text = f"{drift.feature}: {drift.first} to {drift.second}, JS {d.js:.3f} (by chance {d.expected:.3f}), PSI {d.psi:.2f}"
                large[drift.feature] = max(large.get(drift.feature, (0.0, "")), (d.js, text))
        bad = [text for _, text in sorted(large.values(), reverse=True)]
        name = (
            f"{group}: distributions stay alike"
            if "," in group
            else f"{group}: distributions stay alike from day to day"
        )
        if not drifts:
            checks.append(Check(area, name, "skip", f"fewer than two samples of at least {thresholds.min_lists} lists"))
            continue
        good = f"{len(drifts):,} comparisons, none more than {thresholds.drift:g} bits above chance"
        checks.append(
            judged(area, name, bad, good, "warn", f"{len(bad)} features drift by more than {thresholds.drift:g} bits")
        )
    return checks
