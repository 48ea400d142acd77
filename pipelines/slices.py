"""Customers with too many rows for one partition are split by time, each slice with what attribution needs of its neighbours.

Rows that stand in the log more than once are taken out first, over all of the customer. Then slice k owns the engagements of
[a_k, a_k+1), and the lists whose earliest impression lies there with all their impressions, however late. It also gets

    the other engagements from the longest attribution window before a_k to that window after a_k+1 or its last impression,
    of still earlier engagements the last ones that a history may hold,
    in a table `near`, the keys of the other impressions of the same time.

Every row is counted where it is owned. What a slice does not see is only this: an engagement whose last impression lies further back
than the longest window counts as unattributed instead of out of window, and is not in the histogram of delays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from cvr.transforms import PAD
from pipelines import duplicates
from pipelines.batches import column, from_bytes, to_bytes
from pipelines.counts import Counts, merge_all
from pipelines.normalise import ENGAGEMENTS, IMPRESSIONS, SEARCHES
from pipelines.settings import Plan
from pipelines.spill import describe, load

OWN, NEAR = "own", "near"
"""The column of a slice's engagements that says which ones it owns, and the table of its neighbours' impressions."""
_NEAR_COLUMNS = ("customer", "search", "item", "time", "position", "query")
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

    def slice_at(self, times: np.ndarray) -> np.ndarray:
        """The slice that each time lies in, int64 [R]."""
        return np.searchsorted(self.starts, times, side="right") - 1


def find_cuts(pieces: Sequence[bytes], most_rows: int) -> list[Cut]:
    """The customers of a partition that have more than `most_rows` impressions and engagements, and slices of about that many rows."""
    if sum(describe(piece)[1] for piece in pieces) <= most_rows:
        return []
    tables = [from_bytes(load(piece), ("customer", "time"))[1] for piece in pieces if describe(piece)[0] in (IMPRESSIONS, ENGAGEMENTS)]
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
    """A partition's part of file names: `00003`, `00003-c1-s2` for slice 2 of the split customer 1 of partition 3, and `00003-pages` for
    lists of other domains (place -4)."""
    if place < 0:
        return f"{-place - 1:05d}-pages"
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


@dataclasses.dataclass(frozen=True)
class Split:
    """A split customer: `rows` are its rows in each piece that count, `searches` its search ids in ascending order and `homes` the slices
    that own them, `last` [S] the latest time that each slice owns."""

    cut: Cut
    rows: list[np.ndarray]
    searches: np.ndarray
    homes: np.ndarray
    last: np.ndarray


def survey(pieces: Sequence[bytes], cuts: Sequence[Cut], plan: Plan) -> tuple[list[Split], Counts]:
    """Which rows of split customers count, which slices own their lists, and the counts of rows that stand there again."""
    found = [_survey(pieces, cut, plan) for cut in cuts]
    return [split for split, _ in found], merge_all(counts for _, counts in found)


def _survey(pieces: Sequence[bytes], cut: Cut, plan: Plan) -> tuple[Split, Counts]:
    rows = [np.zeros(0, np.int64) for _ in pieces]
    kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    gone: dict[str, np.ndarray] = {}
    for name, about in ((IMPRESSIONS, "search"), (ENGAGEMENTS, "event")):
        places = [place for place, piece in enumerate(pieces) if describe(piece)[0] == name]
        found = [_about_rows(name, pieces[place], cut, about) for place in places]
        keys, times, abouts = (np.concatenate([part[i] for part in found] or [np.zeros(0, np.int64)]) for i in (1, 2, 3))
        mask = duplicates.first_copies(keys, times)
        ends = np.cumsum([len(part[0]) for part in found])
        for place, part, first in zip(places, found, np.split(mask, ends[:-1]), strict=False):
            rows[place] = part[0][first]
        kept[name], gone[name] = (abouts[mask], times[mask]), abouts[~mask]
    return Split(cut, rows, *_homes(cut, *kept[IMPRESSIONS])), duplicates.counted(len(gone[IMPRESSIONS]), gone[ENGAGEMENTS], plan)


def _about_rows(name: str, piece: bytes, cut: Cut, about: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A customer's rows in a piece: (their numbers, keys, times, one more column), int64 each."""
    table = from_bytes(load(piece), ("customer", "time", about, *duplicates.KEYS[name]))[1]
    rows = np.flatnonzero(column(table, "customer") == cut.customer)
    table = table.take(pa.array(rows))
    return rows, duplicates.row_keys(name, table), column(table, "time"), column(table, about)


def _homes(cut: Cut, searches: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(searches in ascending order, the slices of their earliest impressions, the latest time that each slice owns)"""
    found, place = np.unique(searches, return_inverse=True)
    earliest = np.full(len(found), np.iinfo(np.int64).max)
    np.minimum.at(earliest, place, times)
    homes, last = cut.slice_at(earliest), cut.ends - 1
    np.maximum.at(last, homes[place], times)
    return found, homes, last


def slice_pieces(partition: int, pieces: Sequence[bytes], splits: Sequence[Split], plan: Plan) -> Iterator[tuple[int, bytes]]:
    """(place of a slice, piece) for every slice of every split customer of a partition."""
    cutters = {SEARCHES: _searches, IMPRESSIONS: _impressions, ENGAGEMENTS: _engagements}
    for place, piece in enumerate(pieces):
        name, table = from_bytes(load(piece))
        for split in splits:
            mine = table if name == SEARCHES else table.take(pa.array(split.rows[place]))
            for number, kind, part in cutters[name](mine, split, plan):
                if len(part):
                    yield place_of(partition, split.cut, number), to_bytes(kind, part)


_Parts = Iterator[tuple[int, str, pa.Table]]
"""(number of a slice, name of a table, its part of that table)"""


def _home_of(table: pa.Table, split: Split) -> np.ndarray:
    """The slice that owns each row's search, -1 where that is none of the customer's searches. int64 [R]."""
    known = column(table, "search")
    if not len(split.searches):
        return np.full(len(known), -1)
    place = np.minimum(np.searchsorted(split.searches, known), len(split.searches) - 1)
    return np.where(split.searches[place] == known, split.homes[place], -1)


def _close(split: Split, number: int, times: np.ndarray, plan: Plan) -> np.ndarray:
    """Which times matter to the labels of what a slice owns, bool [R]."""
    return (times >= split.cut.starts[number] - plan.window) & (times <= split.last[number] + plan.window)


def _searches(table: pa.Table, split: Split, plan: Plan) -> _Parts:
    homes = _home_of(table, split)
    for number in range(len(split.last)):
        yield number, SEARCHES, table.filter(pa.array(homes == number))


def _impressions(table: pa.Table, split: Split, plan: Plan) -> _Parts:
    homes, times = _home_of(table, split), column(table, "time")
    keys = table.select([name for name in _NEAR_COLUMNS if name in table.column_names])
    for number in range(len(split.last)):
        own = homes == number
        yield number, IMPRESSIONS, table.filter(pa.array(own))
        yield number, NEAR, keys.filter(pa.array(_close(split, number, times, plan) & ~own))


def _engagements(table: pa.Table, split: Split, plan: Plan) -> _Parts:
    times = column(table, "time")
    homes = split.cut.slice_at(times)
    for number in range(len(split.last)):
        early = times < split.cut.starts[number] - plan.window
        mask = _close(split, number, times, plan) | _last_events(table, early, plan)
        yield number, ENGAGEMENTS, table.append_column(OWN, pa.array(homes == number)).filter(pa.array(mask))


def _last_events(engagements: pa.Table, before: np.ndarray, plan: Plan) -> np.ndarray:
    """Of the engagements of a mask the last ones that each history may hold, those at one time all together; a mask [E]."""
    chosen = np.zeros(len(before), bool)
    events, times = column(engagements, "event"), column(engagements, "time")
    for feature in plan.histories:
        assert feature.history is not None
        rows = np.flatnonzero(before & np.isin(events, plan.codes(feature.history.events)))
        if len(rows) > feature.history.length:
            rows = rows[times[rows] >= np.partition(times[rows], -feature.history.length)[-feature.history.length]]
        chosen[rows] = True
    return chosen
