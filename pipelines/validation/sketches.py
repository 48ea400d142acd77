"""Mergeable summaries of bounded size: a histogram of relative bins for numbers, and distinct counts, top values and buckets for ids.

All but the top values (`IdSketch.heavy_*`) merge to the same result whatever the order.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cvr.manifest import Moments
from cvr.transforms import EMPTY, FIRST_ID, UNKNOWN, UNSEEN
from pipelines.statistics import moments

ACCURACY = 0.01
"""Relative error of quantiles."""
SMALLEST_KEPT = 1024
HEAVY_KEPT = 512
BUCKETS = 256

_GAMMA = math.log((1 + ACCURACY) / (1 - ACCURACY))
_SHIFT = 6_000  # of the bins' numbers, so that every positive float32 has a positive one


def bin_keys(values: np.ndarray) -> np.ndarray:
    """Numbers of the relative bins of finite values: 0 for 0, else sign(x) * (6000 + ceil(log(|x|) / log(g))). int32, same shape.

    g = (1 + a) / (1 - a) with a = `ACCURACY`, the mapping of DDSketch (Masson, Rim, Lee, VLDB 2019).
    """
    exact = np.abs(values.astype(np.float64))
    logs = np.log(np.where(exact > 0, exact, 1.0))
    return (np.sign(values) * (np.ceil(logs / _GAMMA) + _SHIFT)).astype(np.int32)


def bin_values(keys: np.ndarray) -> np.ndarray:
    """The value that stands for each bin: within `ACCURACY` of all values in it. float64, same shape."""
    exponent = np.abs(keys).astype(np.float64) - _SHIFT
    middle = 2 * np.exp(exponent * _GAMMA) / (math.exp(_GAMMA) + 1)
    return np.where(keys == 0, 0.0, np.sign(keys) * middle)


def _add_up(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys, sorted, with the sums of their counts."""
    distinct, place = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(place, weights=counts, minlength=len(distinct)).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class NumberSketch:
    """Numbers: `moments`, and how many finite values lie in each relative bin: `keys` int32 [K], sorted, `counts` int64 [K].

    `whole` tells whether all finite values are whole numbers; then quantiles are too.
    """

    moments: Moments
    keys: np.ndarray
    counts: np.ndarray
    whole: bool = True

    @classmethod
    def of(cls, values: np.ndarray) -> NumberSketch:
        """Of float values [R]; NaN is missing, -inf is unseen."""
        finite = values[np.isfinite(values)]
        keys, counts = np.unique(bin_keys(finite), return_counts=True)
        return cls(moments(values), keys, counts.astype(np.int64), bool((finite == np.rint(finite)).all()))

    def merge(self, other: NumberSketch) -> NumberSketch:
        """Of both samples together."""
        joined = np.concatenate([self.keys, other.keys]), np.concatenate([self.counts, other.counts])
        return NumberSketch(self.moments.merge(other.moments), *_add_up(*joined), self.whole and other.whole)

    @property
    def zeros(self) -> int:
        """How many values are 0."""
        return int(self.counts[self.keys == 0].sum())

    @property
    def seen(self) -> float:
        """Share of the values that are not unseen; 0 without any."""
        total = self.moments.count + self.moments.missing + self.moments.unseen
        return 1 - self.moments.unseen / total if total else 0.0

    def quantile(self, share: float) -> float | None:
        """The value of rank floor(share * (n - 1)) within a relative error of `ACCURACY`; None without any value."""
        total = int(self.counts.sum())
        if not total or self.moments.minimum is None or self.moments.maximum is None:
            return None
        rank = math.floor(share * (total - 1))
        place = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        value = float(bin_values(self.keys[place : place + 1])[0])
        value = float(round(value)) if self.whole else value
        return min(max(value, self.moments.minimum), self.moments.maximum)


def mix64(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit integers that looks random (the finaliser of SplitMix64); uint64, same shape."""
    mixed = values.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _heaviest(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """At most `HEAVY_KEPT` ids and their counts less what the next one has: a step of Misra and Gries' summary, and the amount."""
    if len(ids) <= HEAVY_KEPT:
        return ids, counts, 0
    cut = int(np.partition(counts, len(counts) - HEAVY_KEPT - 1)[len(counts) - HEAVY_KEPT - 1])
    kept = counts > cut
    return ids[kept], counts[kept] - cut, cut


@dataclasses.dataclass(frozen=True)
class IdSketch:
    """Hashed ids: `total` of them, of which `empty`, `unseen` and `unknown` (reserved ids); the rest are real.

    `smallest` uint64 [<= 1024] are the least mixed real ids (k minimum values), `heavy_ids` and `heavy_counts` the most frequent ones,
    each at most `heavy_error` below its true count (Misra and Gries, merged as in Agarwal et al., PODS 2012), `buckets` int64 [256]
    counts of real ids by mixed id modulo 256.
    """

    total: int
    empty: int
    unseen: int
    unknown: int
    smallest: np.ndarray
    heavy_ids: np.ndarray
    heavy_counts: np.ndarray
    heavy_error: int
    buckets: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray) -> IdSketch:
        """Of int64 ids [R]."""
        distinct, counts = np.unique(ids, return_counts=True)
        empty, unseen, unknown = (int(counts[distinct == reserved].sum()) for reserved in (EMPTY, UNSEEN, UNKNOWN))
        real = distinct >= FIRST_ID
        distinct, counts = distinct[real], counts[real].astype(np.int64)
        mixed = mix64(distinct)
        places = (mixed % np.uint64(BUCKETS)).astype(np.int64)
        buckets = np.bincount(places, weights=counts, minlength=BUCKETS).astype(np.int64)
        heavy = _heaviest(distinct, counts)
        return cls(len(ids), empty, unseen, unknown, np.sort(mixed)[:SMALLEST_KEPT], *heavy, buckets)

    def merge(self, other: IdSketch) -> IdSketch:
        """Of both samples together."""
        smallest = np.union1d(self.smallest, other.smallest)[:SMALLEST_KEPT]
        ids = np.concatenate([self.heavy_ids, other.heavy_ids])
        heavy = _heaviest(*_add_up(ids, np.concatenate([self.heavy_counts, other.heavy_counts])))
        return IdSketch(
            self.total + other.total,
            self.empty + other.empty,
            self.unseen + other.unseen,
            self.unknown + other.unknown,
            smallest,
            heavy[0],
            heavy[1],
            heavy[2] + self.heavy_error + other.heavy_error,
            self.buckets + other.buckets,
        )

    @property
    def real(self) -> int:
        """How many ids are real."""
        return int(self.buckets.sum())

    @property
    def seen(self) -> float:
        """Share of the ids that are not unseen; 0 without any."""
        return 1 - self.unseen / self.total if self.total else 0.0

    def distinct(self) -> float:
        """Distinct real ids: exact below 1,024, else (k - 1) / U with U the k-th least mixed id over 2^64, standard error 3 %."""
        if len(self.smallest) < SMALLEST_KEPT:
            return float(len(self.smallest))
        return (SMALLEST_KEPT - 1) * 2.0**64 / float(self.smallest[-1])

    def top_share(self, number: int = 1) -> float:
        """Share of the `number` most frequent real ids among the real ones, at least; it may be `heavy_error` / `real` more per id."""
        return float(np.sort(self.heavy_counts)[::-1][:number].sum()) / self.real if self.real else 0.0
