"""Customers with too many rows for one partition are split by time, each slice with what attribution needs of its neighbours.

Slice k of a customer owns its rows of [a_k, a_k+1). It also gets

    all columns of impressions up to an hour before and after, so that a list shown in several steps stays whole,
    the engagements and, in a table `near`, the keys of the other impressions from the longest attribution window before its own to that
    window and the hour after,
    of earlier engagements the last ones that a history may hold.

Every row is counted where it is owned, and a list belongs to the slice that owns its earliest impression. What a slice does not see is
only this: an engagement whose last impression lies further back than the window counts as unattributed instead of out of window.
Duplicates further apart than the window are not recognised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from cvr.transforms import PAD
from pipelines.batches import column, from_bytes, mix, to_bytes
from pipelines.normalise import ENGAGEMENTS, IMPRESSIONS, SEARCHES
from pipelines.settings import HOUR_MS, Plan
from pipelines.spill import describe, load

OWN, NEAR = "own", "near"
_NEAR_COLUMNS = ("customer", "search", "item", "time", "position", "query", OWN)
_CUSTOMER_BITS, _SLICE_BITS = 20, 20


@dataclasses.dataclass(frozen=True)
class Cut:
    """How one customer is split: `starts` [S] are the first times of its slices in ms, the first one open to the past."""

    number: int
    customer: int
    starts: np.ndarray

    @property
    def ends(self) -> np.ndarray:
        """The first times after each slice, int64 [S]."""
        return np.append(self.starts[1:], np.iinfo(np.int64).max // 2)


def find_cuts(pieces: Sequence[bytes], most_rows: int) -> list[Cut]:
    """The customers of a partition that have more than `most_rows` impressions and engagements, and slices of about that many rows."""
    if sum(describe(piece)[1] for piece in pieces) <= most_rows:
        return []
    tables = [from_bytes(load(piece), ("customer", "time"))[1] for piece in pieces if describe(piece)[0] != SEARCHES]
    customers = np.concatenate([column(table, "customer") for table in tables])
    found, counts = np.unique(customers, return_counts=True)
    hot = [int(customer) for customer in found[(counts > most_rows) & (found != PAD)]]
    if not hot:
        return []
    times = np.concatenate([column(table, "time") for table in tables])
    cuts = [Cut(number, customer, _starts(times[customers == customer], most_rows)) for number, customer in enumerate(hot)]
    return [cut for cut in cuts if len(cut.starts) > 1]


def _starts(times: np.ndarray, most_rows: int) -> np.ndarray:
    slices = -(-len(times) // most_rows)
    edges = np.quantile(times, np.arange(1, slices) / slices, method="lower")
    return np.unique(np.append(np.iinfo(np.int64).min // 2, edges)).astype(np.int64)


def place_of(partition: int, cut: Cut, number: int) -> int:
    """The number of a slice as a partition of its own: never that of a hash partition."""
    return ((partition + 1) << (_CUSTOMER_BITS + _SLICE_BITS)) + (cut.number << _SLICE_BITS) + number


def part_name(place: int) -> str:
    """A partition's part of file names: `00003`, or `00003-c1-s2` for slice 2 of the split customer 1 of partition 3."""
    partition = (place >> (_CUSTOMER_BITS + _SLICE_BITS)) - 1
    if partition < 0:
        return f"{place:05d}"
    customer = (place >> _SLICE_BITS) & (2**_CUSTOMER_BITS - 1)
    return f"{partition:05d}-c{customer}-s{place & (2**_SLICE_BITS - 1)}"


def without(pieces: Sequence[bytes], cuts: Sequence[Cut]) -> Iterator[bytes]:
    """A partition's pieces without the rows of split customers."""
    customers = np.array([cut.customer for cut in cuts])
    for piece in pieces:
        name, table = from_bytes(load(piece))
        if name == SEARCHES:
            yield load(piece)
            continue
        left = table.filter(pa.array(~np.isin(column(table, "customer"), customers)))
        if len(left):
            yield to_bytes(name, left)


def slice_pieces(partition: int, pieces: Sequence[bytes], cuts: Sequence[Cut], plan: Plan) -> Iterator[tuple[int, bytes]]:
    """(place of a slice, piece) for every slice of every split customer of a partition."""
    homes = [_homes(pieces, cut) for cut in cuts]
    for piece in pieces:
        name, table = from_bytes(load(piece))
        for cut, (searches, numbers) in zip(cuts, homes, strict=True):
            if name == SEARCHES:
                parts = _searches_by_slice(table, searches, numbers)
            else:
                parts = _rows_by_slice(name, table.filter(pa.array(column(table, "customer") == cut.customer)), cut, plan)
            yield from ((place_of(partition, cut, number), to_bytes(kind, part)) for number, kind, part in parts)


def _homes(pieces: Sequence[bytes], cut: Cut) -> tuple[np.ndarray, np.ndarray]:
    """Which slices own rows of a customer's searches: (searches, slice numbers), each pair once."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for piece in pieces:
        if describe(piece)[0] == IMPRESSIONS:
            table = from_bytes(load(piece), ("customer", "search", "time"))[1]
            mine = column(table, "customer") == cut.customer
            slices = np.searchsorted(cut.starts, column(table, "time")[mine], side="right") - 1
            found.append((column(table, "search")[mine], slices))
    searches, slices = (np.concatenate([pair[i] for pair in found]) for i in (0, 1))
    _, first = np.unique(mix(searches, slices), return_index=True)
    return searches[first], slices[first]


def _searches_by_slice(table: pa.Table, searches: np.ndarray, numbers: np.ndarray) -> Iterator[tuple[int, str, pa.Table]]:
    known = column(table, "search")
    for number in np.unique(numbers[np.isin(searches, known)]):
        yield int(number), SEARCHES, table.filter(pa.array(np.isin(known, searches[numbers == number])))


def _rows_by_slice(name: str, table: pa.Table, cut: Cut, plan: Plan) -> Iterator[tuple[int, str, pa.Table]]:
    """(number of a slice, name of a table, its part of it), none that is empty; `table` holds the customer's rows of one piece."""
    times = column(table, "time")
    for number, (start, end) in enumerate(zip(cut.starts, cut.ends, strict=True)):
        marked = table.append_column(OWN, pa.array((times >= start) & (times < end)))
        seen = (times >= start - plan.window) & (times < end + plan.window + HOUR_MS)
        if name == ENGAGEMENTS:
            masks = {ENGAGEMENTS: seen | _last_events(table, times < start - plan.window, plan)}
        else:
            close = (times >= start - HOUR_MS) & (times < end + HOUR_MS)
            masks = {IMPRESSIONS: close, NEAR: seen & ~close}
        for kind, mask in masks.items():
            if mask.any():
                part = marked.filter(pa.array(mask))
                names = [c for c in _NEAR_COLUMNS if c in part.column_names] if kind == NEAR else part.column_names
                yield number, kind, part.select(names)


def _last_events(engagements: pa.Table, before: np.ndarray, plan: Plan) -> np.ndarray:
    """Of the engagements of a mask the last ones that each history may hold; a mask [E]."""
    chosen = np.zeros(len(before), bool)
    events, times = column(engagements, "event"), column(engagements, "time")
    for feature in plan.histories:
        assert feature.history is not None
        rows = np.flatnonzero(before & np.isin(events, plan.codes(feature.history.events)))
        if len(rows) > feature.history.length:
            earliest = np.sort(_first_copies(engagements, rows, times))[-feature.history.length :][:1]
            rows = rows[times[rows] >= earliest.min(initial=np.iinfo(np.int64).min)]
        chosen[rows] = True
    return chosen


def _first_copies(engagements: pa.Table, rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Times of the rows, an event id counted once, at its earliest time."""
    event_id = column(engagements, "event_id")[rows]
    known = event_id != PAD
    order = rows[known][np.argsort(times[rows[known]], kind="stable")]
    _, first = np.unique(column(engagements, "event_id")[order], return_index=True)
    return np.concatenate([times[rows[~known]], times[order[first]]])
