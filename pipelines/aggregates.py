"""Point-in-time engagement counts and smoothed rates.

A component counts events per (key, time bucket). Each hash partition counts its own events; together the counts of all partitions form a
`CountTable`, which answers "how many events of this key lie in the buckets [a, b)" by binary search in cumulative sums. A list at time t
asks with its *moment* m = floor((t - lag) / bucket), the number of buckets that are over at t - lag: `window` w counts the buckets
[m - ceil(w / bucket), m). So nothing at or after t - lag is ever in a count; with buckets of 1 ms that is exactly "strictly before".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.schema import Aggregate
from cvr.transforms import PAD
from pipelines.batches import column, mix
from pipelines.settings import IMPRESSION, Component, Plan, Question

NONE = -1
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


def first_of_each(codes: np.ndarray, distinct: int) -> np.ndarray:
    """The first row of each code 0 .. distinct - 1, int64 [distinct]."""
    first = np.empty(distinct, np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first


def distinct_pairs(keys: np.ndarray, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes of (key, bucket) pairs in the order of their first rows [R], and those first rows."""
    codes, found = pd.factorize(mix(keys, buckets))
    return codes, first_of_each(codes, len(found))


def _group(keys: np.ndarray, buckets: np.ndarray) -> pa.Table:
    codes, first = distinct_pairs(keys, buckets)
    sums = np.bincount(codes, minlength=len(first))
    return pa.table({"key": keys[first], "bucket": buckets[first], "count": sums})


def partial_counts(component: Component, impressions: pa.Table, engagements: pa.Table, plan: Plan) -> pa.Table:
    """Events of a component in one partition: `key`, `bucket` (its number since the epoch), `count`; each pair once."""
    parts = []
    codes = plan.codes(component.events)
    for table, chosen in (
        (impressions, None if IMPRESSION in component.events else np.zeros(0, np.int64)),
        (engagements, np.flatnonzero(np.isin(column(engagements, "event"), codes))),
    ):
        columns = {name: column(table, name) for name in (*component.by, "time")}
        columns = columns if chosen is None else {name: values[chosen] for name, values in columns.items()}
        keys = keys_of(component.by, columns, len(columns["time"]))
        buckets = columns["time"] // component.bucket
        known = keys != PAD
        parts.append((keys, buckets) if known.all() else (keys[known], buckets[known]))
    keys, buckets = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return _group(keys, buckets)


class CountTable:
    """Counts of one component, to be asked for ranges of buckets. `counts` may hold a (key, bucket) more than once: they add up."""

    def __init__(self, counts: pa.Table) -> None:
        keys, buckets = column(counts, "key"), column(counts, "bucket")
        self._keys, place = np.unique(keys, return_inverse=True)
        self._low = int(buckets.min()) if len(keys) else 0
        self._span = (int(buckets.max()) - self._low + 2) if len(keys) else 2
        self._stamps: np.ndarray | None = None
        if len(self._keys) * self._span >= 2**62:  # a far time among fine buckets: their ranks fit where they do not
            self._stamps = np.unique(buckets)
            self._span = len(self._stamps) + 1
        joint = place * self._span + self._offsets(buckets)
        order = np.argsort(joint, kind="stable")
        self._joint = joint[order]
        self._totals = np.concatenate([[0], np.cumsum(column(counts, "count")[order])])
        self._starts = np.searchsorted(self._joint, np.arange(len(self._keys)) * self._span)

    def _offsets(self, buckets: np.ndarray) -> np.ndarray:
        """Numbers from 0 to the span - 1 that sort as the buckets do, those beyond the known ones at its ends. int64 [R]."""
        if self._stamps is not None:
            return np.searchsorted(self._stamps, buckets)
        return np.clip(buckets - self._low, 0, self._span - 1)

    def places(self, keys: np.ndarray) -> np.ndarray:
        """Where keys are in this table, for `total_before`; NONE for a key without any event. int64 [R]."""
        if not len(self._keys):
            return np.full(len(keys), NONE, np.int64)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, place, NONE)

    def total_before(self, places: np.ndarray, buckets: np.ndarray) -> np.ndarray:
        """Events of the keys at `places` in buckets strictly before the given ones, int64 [R]; 0 for NONE."""
        if not len(self._keys):
            return np.zeros(len(places), np.int64)
        upto = np.searchsorted(self._joint, places * self._span + self._offsets(buckets), side="left")
        return np.where(places == NONE, 0, self._totals[upto] - self._totals[self._starts[places]])


def answer(question: Question, tables: Mapping[Component, CountTable], keys: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The question's counts for (key, moment) pairs, int64 [R, C]; keys without events have 0. Pairs may repeat."""
    order = np.lexsort((moments, keys))
    found = np.zeros((len(keys), len(question.counts)), np.int64)
    keys, moments = keys[order], moments[order]
    upto: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
    for index, (events, back) in enumerate(question.counts):
        table = tables.get(Component(question.by, events, question.bucket))
        if table is None:
            continue
        if events not in upto:
            places = table.places(keys)
            upto[events] = places, table.total_before(places, moments)
        places, total = upto[events]
        found[order, index] = total if back is None else total - table.total_before(places, moments - back)
    return found


def moments_of(question: Question, times: np.ndarray) -> np.ndarray:
    """The number of buckets that are over at each list time less the lag, int64 [R]."""
    return (times - question.lag) // question.bucket


def rate(aggregate: Aggregate, counts: Sequence[np.ndarray], known: np.ndarray) -> np.ndarray:
    """A feature's values from its counts (`Plan.places`), float64 [R]; NaN where the key is not known, or nothing to divide by.

    With `per`: (count + prior * base) / (count of per + prior), base the same ratio over all keys at that time (0 before any).
    """
    if not aggregate.per:
        return np.where(known, counts[0].astype(np.float64), np.nan)
    base = np.divide(counts[2], counts[3], out=np.zeros(len(known)), where=counts[3] > 0)
    above, below = counts[0] + aggregate.prior * base, counts[1] + aggregate.prior
    return np.where(known, np.divide(above, below, out=np.full(len(known), np.nan), where=below > 0), np.nan)
