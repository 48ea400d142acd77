"""Differences between two systems that ranked the same lists, each trained with one or more seeds.

Value of list q by seed s: X_sq = mean + seed_s + list_q + interaction_sq. Both systems see the same lists, so differences are taken list
by list; their seeds are unrelated. The estimate is D = mean of B - mean of A, and its variance

    V = V_lists + V_seeds,    V_seeds = s_A^2 / S_A + s_B^2 / S_B,    V_lists = var(d_q) / Q - interaction part

where s^2 is the variance of a system's seed means, d_q the difference of the means over seeds, and the interaction part, the residual mean
square of lists x seeds over S Q, is in both sums and counts once. Replicates of D resample lists (or clusters of lists: a customer's)
and add sqrt(V_seeds) times Student's t with Welch's degrees of freedom. A handful of seeds is too few to be resampled: where 3 seeds matter
more than the lists, 86 % of such intervals hold the truth, not 95 %. With one seed there is no V_seeds, and the result is about these two
trained models only. P-values and the minimum detectable effect are those of t tests with this V.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import stats

from cvr.errors import CvrError

LEVEL = 0.05
POWER = 0.8
_CHUNK = 4_000_000
"""Weights that are held in memory at once."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A system (B) against the reference (A).

    `interval` and `relative_interval` hold with 95 %. `p` is that of no difference, two-sided; `p_equivalent` that of a difference of at
    least the margin in either direction (two one-sided tests), None without one. `se_lists` and `se_seeds` are the two parts of the
    standard error. `mde` is the smallest true difference that such a comparison finds with 80 % power at the 5 % level.
    """

    lists: int
    clusters: int
    seeds: tuple[int, int]
    reference: float
    system: float
    difference: float
    interval: tuple[float, float]
    relative: float
    relative_interval: tuple[float, float]
    p: float
    p_equivalent: float | None
    se_lists: float
    se_seeds: float
    mde: float


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How many replicates, from which seed, and the margin of equivalence, in units of the metric."""

    replicates: int = 10_000
    seed: int = 0
    margin: float | None = None


def compare(a: np.ndarray, b: np.ndarray, how: Resampling = Resampling(), clusters: np.ndarray | None = None) -> Comparison:
    """Compares system `b` with reference `a`.

    Args:
      a, b: values `[S_A, Q]`, `[S_B, Q]` of the same Q lists, at least two, all finite.
      how: the resampling.
      clusters: int `[Q]`; lists of one cluster are resampled together. By default each list is its own.

    Raises CvrError where all lists are in one cluster.
    """
    lists = a.shape[1]
    groups = np.arange(lists) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    if len(groups) == 0 or groups.max() == 0:
        raise CvrError(f"{lists} lists in one cluster: nothing to resample; choose smaller clusters or another slice")
    parts = _Parts.of(a, b, groups)
    means = np.array([a.mean(), b.mean()])
    difference = float(means[1] - means[0])
    values, base = _replicates(a, b, groups, parts, how)
    relative, relatives = (difference / means[0], values / base) if means[0] else (math.nan, np.full(len(values), math.nan))
    return Comparison(
        lists=lists,
        clusters=parts.clusters,
        seeds=(len(a), len(b)),
        reference=float(means[0]),
        system=float(means[1]),
        difference=difference,
        interval=_interval(values),
        relative=float(relative),
        relative_interval=_interval(relatives),
        p=2 * parts.tail(abs(difference)),
        p_equivalent=None if how.margin is None else parts.tail(how.margin - abs(difference)),
        se_lists=math.sqrt(parts.lists),
        se_seeds=math.sqrt(sum(parts.seeds)),
        mde=parts.minimum_detectable(),
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Variances of D: of the lists, of each system's seeds; and of the mean over resampled lists, which replicates are scaled from."""

    clusters: int
    lists: float
    seeds: tuple[float, float]
    degrees: tuple[int, int]
    resampled: float

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, groups: np.ndarray) -> _Parts:
        """From the values `[S, Q]` of both systems and the cluster of each list `[Q]`."""
        total, count = a.shape[1], int(groups.max()) + 1
        share = count / (count - 1)
        centred = b.mean(axis=0) - a.mean(axis=0)
        resampled = _sum_of_squares(centred - centred.mean(), groups) / total**2
        interaction = sum(_interaction(system, groups) for system in (a, b)) * share / total**2
        seeds = tuple(float(np.var(s.mean(axis=1), ddof=1)) / len(s) if len(s) > 1 else 0.0 for s in (a, b))
        lists = max(0.0, resampled * share - interaction)
        return cls(count, lists, (seeds[0], seeds[1]), (len(a) - 1, len(b) - 1), resampled)

    @property
    def variance(self) -> float:
        """V."""
        return self.lists + sum(self.seeds)

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of V."""
        spread = self.lists**2 / (self.clusters - 1) + sum(v**2 / d for v, d in zip(self.seeds, self.degrees, strict=True) if d)
        return self.variance**2 / spread

    def tail(self, distance: float) -> float:
        """P(T >= distance / sqrt(V)) of Student's t: the p-value of a one-sided test."""
        if self.variance == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(stats.t.sf(distance / math.sqrt(self.variance), self.freedom))

    def minimum_detectable(self) -> float:
        """(t(1 - 5 %/2) + t(80 %)) sqrt(V)."""
        if self.variance == 0:
            return 0.0
        return float(stats.t.ppf([1 - LEVEL / 2, POWER], self.freedom).sum() * math.sqrt(self.variance))


def _sum_of_squares(values: np.ndarray, groups: np.ndarray) -> float:
    """Sum over clusters of (sum of the cluster's values)^2; values `[Q]`."""
    return float(np.sum(np.bincount(groups, weights=values) ** 2))


def _interaction(values: np.ndarray, groups: np.ndarray) -> float:
    """Sum of squares of what neither seed nor list explains, per degree of freedom of the seeds, of the mean over them; `[S, Q]`."""
    seeds = len(values)
    if seeds == 1:
        return 0.0
    residual = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return sum(_sum_of_squares(row, groups) for row in residual) / ((seeds - 1) * seeds)


def _replicates(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray, parts: _Parts, how: Resampling
) -> tuple[np.ndarray, np.ndarray]:
    """Replicates of D and of the reference's mean, `[R]` each."""
    source = np.random.default_rng(how.seed)
    reference, other = a.mean(axis=0), b.mean(axis=0)
    means = resampled_means(np.stack([reference, other - reference], axis=1), groups, how.replicates, source)
    scale = math.sqrt(parts.lists / parts.resampled) if parts.resampled else 0.0
    difference = other.mean() - reference.mean()
    variance = sum(parts.seeds)
    if not variance:
        return difference + scale * (means[:, 1] - difference), means[:, 0]
    degrees = variance**2 / sum(v**2 / d for v, d in zip(parts.seeds, parts.degrees, strict=True) if d)
    shift = math.sqrt(variance) * source.standard_t(degrees, how.replicates)
    return difference + scale * (means[:, 1] - difference) + shift, means[:, 0] - shift * parts.seeds[0] / variance


def resampled_means(values: np.ndarray, groups: np.ndarray, replicates: int, source: np.random.Generator) -> np.ndarray:
    """Means `[R, K]` of columns `[Q, K]` over lists, clusters of which are drawn with replacement."""
    count = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, weights=column, minlength=count) for column in (*values.T, np.ones(len(groups)))], axis=1)
    size, out = max(1, _CHUNK // count), []
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = source.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        totals = weights @ sums
        out.append(totals[:, :-1] / totals[:, -1:])
    return np.concatenate(out)


def holm(p: np.ndarray) -> np.ndarray:
    """P-values adjusted so that the chance of any false finding among them is bounded (Holm 1979): running max of (m - i) p_(i)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """P-values adjusted so that the expected share of false findings is bounded (Benjamini and Hochberg 1995)."""
    return stats.false_discovery_control(p, method="bh")
