"""Importances with their intervals over lists, permutations and runs.

Value of list q under permutation r of run s: x_srq, a drop of average precision or a sum of such. With one run the permutations are the
repeats whose variance stands beside that of the lists; with several, the means of the runs are, which have permutations of their own, so
that their variance holds both (`tools.comparison.statistics`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from tools.comparison.statistics import LEVEL, POWER, Resampling, compare, holm, resampled_means


@dataclasses.dataclass(frozen=True)
class Effect:
    """A mean with its 95 % interval, the parts of its standard error, the p-value of 0, and the minimum detectable effect.

    `se_runs` is None for one run; for several it holds the permutations' part, too. `p` is corrected by `corrected`.
    """

    value: float
    interval: tuple[float, float]
    se_lists: float
    se_permutations: float
    se_runs: float | None
    p: float
    mde: float

    @property
    def clear(self) -> bool:
        """Whether it is told from 0 at the 5 % level."""
        return self.p < LEVEL

    def as_json(self, base: float) -> dict[str, Any]:
        """Plain values; `relative` is the share of the base's mAP."""
        found = {**dataclasses.asdict(self), "interval": list(self.interval)}
        return {**found, "relative": self.value / base if base else math.nan}


def estimate(values: np.ndarray, how: Resampling) -> Effect:
    """The mean of `[S, R, Q]`: S runs, R permutations, Q lists."""
    runs, permutations, lists = values.shape
    rows = values[0] if runs == 1 else values.mean(axis=1)
    found = compare(np.zeros((1, lists)), rows, how)
    by_permutation = values.mean(axis=2).var(axis=1, ddof=1) / permutations
    return Effect(
        value=found.difference,
        interval=found.interval,
        se_lists=found.se_lists,
        se_permutations=math.sqrt(by_permutation.sum()) / runs,
        se_runs=found.se_seeds if runs > 1 else None,
        p=found.p,
        mde=found.mde,
    )


def corrected(effects: Sequence[Effect]) -> list[Effect]:
    """The effects of one table with p-values corrected for their number (Holm)."""
    if not effects:
        return []
    adjusted = holm(np.array([effect.p for effect in effects]))
    return [dataclasses.replace(effect, p=float(p)) for effect, p in zip(effects, adjusted, strict=True)]


@dataclasses.dataclass(frozen=True)
class Share:
    """A part's share of a sum, its 95 % interval, and the minimum detectable difference of the share from another value."""

    value: float
    interval: tuple[float, float]
    mde: float


def shares(parts: Sequence[np.ndarray], how: Resampling) -> list[Share]:
    """Each part's share m_k / sum_j m_j of means m `[K]` over `[S, R, Q]`, negative ones set to 0; NaN where all are.

    Intervals are those of replicates: means over resampled lists, plus a draw of the multivariate t distribution with the covariance of
    the means of permutations (one run) or runs; each set to 0 where negative, and divided by their sum.
    """
    rows = np.stack([part[0] if len(part) == 1 else part.mean(axis=1) for part in parts])
    repeats, source = rows.shape[1], np.random.default_rng(how.seed)
    lists = resampled_means(rows.mean(axis=1).T, np.arange(rows.shape[2]), how.replicates, source)
    covariance = np.cov(rows.mean(axis=2)) / repeats
    normal = source.multivariate_normal(np.zeros(len(parts)), np.atleast_2d(covariance), how.replicates)
    t = normal * np.sqrt((repeats - 1) / source.chisquare(repeats - 1, how.replicates))[:, None]
    values, replicates = _normalised(rows.mean(axis=(1, 2))[None])[0], _normalised(lists + t)
    replicates = replicates[np.isfinite(replicates).all(axis=1)]
    if not len(replicates) or np.isnan(values).any():
        return [Share(math.nan, (math.nan, math.nan), math.nan)] * len(parts)
    low, high = np.quantile(replicates, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    mde = stats.norm.ppf([1 - LEVEL / 2, POWER]).sum() * replicates.std(axis=0)
    return [Share(float(v), (float(a), float(b)), float(m)) for v, a, b, m in zip(values, low, high, mde, strict=True)]


def _normalised(means: np.ndarray) -> np.ndarray:
    """Rows `[.., K]` without negatives, over their sums; NaN where that is 0."""
    kept = np.maximum(means, 0.0)
    with np.errstate(invalid="ignore"):
        return kept / kept.sum(axis=1, keepdims=True)
