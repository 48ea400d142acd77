"""Point-in-time engagement counts and smoothed rates.

A component counts events per (key, time bucket). Each hash partition counts its own events; the counts of all partitions together form a
`CountTable`, which answers "how many events of this key lie in buckets [a, b)" by binary search in cumulative sums. A value at time t
counts the buckets that end at or before t - lag and begin at or after t - lag - window, so nothing at or after the search is ever in it;
with a bucket of 1 ms that is exactly "strictly before t - lag".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from cvr.schema import Aggregate
from cvr.transforms import PAD
from pipelines.batches import column, from_bytes, mix, to_bytes
from pipelines.settings import IMPRESSION, Component, Plan

ALL = 1
"""The key of components that count over all keys."""


def keys_of(by: Sequence[str], columns: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """One hash per row for a key of several parts; PAD where a part is null. int64 [R]."""
    if not by:
        return np.full(rows, ALL, np.int64)
    parts = [columns[name] for name in by]
    keys = parts[0]
    for part in parts[1:]:
        keys = mix(keys, part)
    return np.where(np.logical_or.reduce([part == PAD for part in parts]), PAD, keys)


def _group(keys: np.ndarray, buckets: np.ndarray, weights: np.ndarray) -> pa.Table:
    order = np.lexsort((buckets, keys))
    keys, buckets, weights = keys[order], buckets[order], weights[order]
    first = np.ones(len(keys), bool)
    first[1:] = (keys[1:] != keys[:-1]) | (buckets[1:] != buckets[:-1])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(weights, starts) if len(starts) else weights
    return pa.table({"key": keys[starts], "bucket": buckets[starts], "count": sums})


def partial_counts(component: Component, impressions: pa.Table, engagements: pa.Table, plan: Plan) -> pa.Table:
    """Events of a component in one partition: `key`, `bucket` (its number since the epoch), `count`, sorted by key and bucket."""
    parts = []
    codes = plan.codes(component.events)
    for table, chosen in (
        (impressions, np.full(len(impressions), IMPRESSION in component.events)),
        (engagements, np.isin(column(engagements, "event"), codes)),
    ):
        columns = {name: column(table, name)[chosen] for name in component.by}
        keys = keys_of(component.by, columns, int(chosen.sum()))
        parts.append((keys[keys != PAD], (column(table, "time")[chosen] // component.bucket)[keys != PAD]))
    keys, buckets = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return _group(keys, buckets, np.ones(len(keys), np.int64))


def combine(pieces: Iterable[bytes]) -> bytes:
    """Adds up partial counts of one component; serialised in and out. Usable after a GroupByKey."""
    table = pa.concat_tables([from_bytes(piece)[1] for piece in pieces]).combine_chunks()
    return to_bytes("counts", _group(*(column(table, name) for name in ("key", "bucket", "count"))))


class CountTable:
    """Counts of one component, to be asked for ranges of buckets."""

    def __init__(self, counts: pa.Table) -> None:
        keys, self._buckets = column(counts, "key"), column(counts, "bucket")
        self._totals = np.concatenate([[0], np.cumsum(column(counts, "count"))])
        self._keys, self._starts = np.unique(keys, return_index=True)
        self._ends = np.append(self._starts[1:], len(keys))
        self._low = int(self._buckets.min()) if len(keys) else 0
        self._span = (int(self._buckets.max()) - self._low + 2) if len(keys) else 2
        place = np.repeat(np.arange(len(self._keys)), self._ends - self._starts)
        self._joint = place * self._span + (self._buckets - self._low)

    def total_before(self, keys: np.ndarray, buckets: np.ndarray) -> np.ndarray:
        """Events of each key in buckets strictly before the given ones, int64 [R]; 0 for a key without any."""
        if not len(self._keys):
            return np.zeros(len(keys), np.int64)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        offset = np.clip(buckets - self._low, 0, self._span - 1)
        upto = np.searchsorted(self._joint, place * self._span + offset, side="left")
        found = self._totals[upto] - self._totals[self._starts[place]]
        return np.where(self._keys[place] == keys, found, 0)

    def between(
        self, keys: np.ndarray, times: np.ndarray, aggregate_bucket: int, window: int | None, lag: int
    ) -> np.ndarray:
        """Events in whole buckets of [t - lag - window, t - lag); window None counts from the beginning. int64 [R]."""
        last = (times - lag) // aggregate_bucket
        counted = self.total_before(keys, last)
        if window is None:
            return counted
        first = -((lag + window - times) // aggregate_bucket)
        return counted - self.total_before(keys, np.minimum(first, last))


def value(aggregate: Aggregate, tables: list[CountTable], keys: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The feature's values at `times`, float64 [R]; NaN where the key is null (PAD) or a rate without prior has no denominator.

    With `per`: (count + prior * base) / (count of per + prior), base the same ratio over all keys at that time (0 before any).
    `tables` are those of `Plan.components_of`.
    """
    window = None if aggregate.window == "all" else int(aggregate.window)
    counts = [table.between(keys, times, aggregate.bucket, window, aggregate.lag) for table in tables[:2]]
    if not aggregate.per:
        return np.where(keys == PAD, np.nan, counts[0].astype(np.float64))
    everything = np.full(len(keys), ALL, np.int64)
    moments, back = np.unique(times, return_inverse=True)
    bases = [
        t.between(everything[: len(moments)], moments, aggregate.bucket, window, aggregate.lag)[back]
        for t in tables[2:]
    ]
    base = np.divide(bases[0], bases[1], out=np.zeros(len(keys)), where=bases[1] > 0)
    above, below = counts[0] + aggregate.prior * base, counts[1] + aggregate.prior
    rate = np.divide(above, below, out=np.full(len(keys), np.nan), where=below > 0)
    return np.where(keys == PAD, np.nan, rate)
