"""Tables of a source -> the columns that the pipeline carries; rows with bad values are set aside with their reason.

Carried impressions: `customer`, `search`, `item`, `query` (hashes; 0 for a null customer), `time` (ms), `position`, `is_list` (domain
search), and for features `n:<column>` (float32, NaN missing, -inf absent), `c:<column>` (ids of values, EMPTY null, UNSEEN absent) and
`s:<column>` (text as a dictionary, ABSENT absent). Their search ids travel in a table of their own: `search`, `search_id`.
Carried engagements: `customer`, `search` (0 where null), `item`, `time`, `event` (code of the plan), `event_id` (0 where null).
Carried items: `item` and the feature columns.
For ES3 (`pipelines.es3`) impressions also carry `elsewhere`, whether their domain becomes lists of its own, engagements `elsewhere`,
whether they happened in another domain than search, and candidates `customer`, `search`, `item` and feature columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from cvr.errors import CvrError
from cvr.transforms import EMPTY, PAD, UNSEEN, UNSEEN_VALUE
from pipelines.batches import column, hash_distinct
from pipelines.es3.options import DOMAIN, EXPOSED, EXPOSURE, SEARCH_DOMAIN, UNEXPOSED
from pipelines.settings import IMPRESSION, Plan
from pipelines.values import ABSENT, EARLIEST_MS, LATEST_MS, absent_mask, as_coded, as_integers, as_numbers, as_text

IMPRESSIONS, ENGAGEMENTS, ITEMS, SEARCHES, CANDIDATES = "impressions", "engagements", "items", "searches", "candidates"
REQUIRED = {
    IMPRESSIONS: ("search_id", "time", "customer_id", "item_id", "position"),
    ENGAGEMENTS: ("time", "customer_id", "item_id", "event"),
    ITEMS: ("item_id",),
    CANDIDATES: ("search_id", "customer_id", "item_id"),
}
_LARGEST = float(np.finfo(np.float32).max)


class Reasons:
    """Why rows are bad; the first reason of a row stays."""

    def __init__(self, rows: int) -> None:
        self._codes = np.zeros(rows, np.int64)
        self._texts: list[str] = []

    def mark(self, mask: np.ndarray, text: str) -> None:
        """Gives the rows of the mask a reason."""
        if mask.any():
            self._texts.append(text)
            self._codes[mask & (self._codes == 0)] = len(self._texts)

    @property
    def good(self) -> np.ndarray:
        """Mask of rows without a reason, bool [R]."""
        return self._codes == 0

    def items(self) -> list[tuple[int, str]]:
        """(row, reason) of each bad row."""
        return [(int(row), self._texts[self._codes[row] - 1]) for row in np.flatnonzero(self._codes)]


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """The good rows in carried columns, and (row of the input, reason) of the others.

    `events` counts engagements by name; `searches` are the search ids of impressions: (codes of the good rows, distinct texts).
    """

    table: pa.Table
    bad: list[tuple[int, str]]
    events: dict[str, int] = dataclasses.field(default_factory=dict)
    searches: tuple[np.ndarray, pa.Array] | None = None


def require_columns(name: str, have: Sequence[str], where: str) -> None:
    """Raises CvrError naming the columns of the canonical layout that a table lacks."""
    missing = [c for c in REQUIRED[name] if c not in have]
    if missing:
        raise CvrError(
            f"{where}: the {name} lack the column(s) {', '.join(missing)}; they have {', '.join(have) or 'none'}"
        )


def clean_ids(table: pa.Table, name: str, reasons: Reasons, required: bool) -> np.ndarray:
    """Hashes of an id column, PAD where it is null, empty or not there; those rows are bad if the id is required. int64 [R]."""
    if name not in table.column_names:
        return np.full(len(table), PAD, np.int64)
    return _hashed_ids(*as_coded(table.column(name), name), name, reasons, required)


def _hashed_ids(codes: np.ndarray, distinct: pa.Array, name: str, reasons: Reasons, required: bool) -> np.ndarray:
    ids = hash_distinct(distinct, PAD)
    ids[ids == EMPTY] = PAD
    hashed = ids[codes]
    if required and (ids == PAD).any():
        reasons.mark(hashed == PAD, f"{name} is null or empty")
    return hashed


def clean_times(table: pa.Table, reasons: Reasons) -> np.ndarray:
    """The column `time` in ms; rows without a plausible one are bad. int64 [R]."""
    times, null, wrong = as_integers(table.column("time"), "time")
    reasons.mark(null, "time is null")
    reasons.mark(wrong, "time is not a whole number of milliseconds")
    reasons.mark(
        ~null & ~wrong & (times < EARLIEST_MS), "time lies before 1973; times are milliseconds since 1970, not seconds"
    )
    reasons.mark(times > LATEST_MS, "time lies after the year 3000; times are milliseconds since 1970")
    return times


def clean_features(table: pa.Table, wanted: dict[str, set[str]], reasons: Reasons) -> dict[str, pa.Array]:
    """The carried columns of wanted ones ({name: {"n", "c", "s"}}); rows with something that is no number are bad."""
    carried: dict[str, pa.Array] = {}
    rows = len(table)
    for name, kinds in sorted(wanted.items()):
        there = name in table.column_names
        values = table.column(name) if there else pa.nulls(rows, pa.large_string())
        mask = absent_mask(name)
        absent = column(table, mask) if mask in table.column_names else None if there else np.ones(rows, bool)
        if "n" in kinds:
            numbers, wrong = as_numbers(values, name)
            reasons.mark(wrong, f"{name} is not a number")
            numbers = np.clip(numbers, -_LARGEST, _LARGEST).astype(np.float32)
            carried[f"n:{name}"] = pa.array(numbers if absent is None else np.where(absent, np.float32(UNSEEN_VALUE), numbers))
        if kinds & {"c", "s"}:
            codes, distinct = as_coded(values, name)
            carried |= _carried_texts(name, kinds, codes, distinct, absent)
    return carried


def _carried_texts(
    name: str, kinds: set[str], codes: np.ndarray, distinct: pa.Array, absent: np.ndarray | None
) -> dict[str, pa.Array]:
    carried: dict[str, pa.Array] = {}
    if "c" in kinds:
        ids = hash_distinct(distinct)[codes]
        carried[f"c:{name}"] = pa.array(ids if absent is None else np.where(absent, UNSEEN, ids))
    if "s" in kinds:
        missing = codes == len(distinct)
        if absent is not None and absent.any():
            codes, missing = np.where(absent, len(distinct), codes), missing & ~absent
            distinct = pa.concat_arrays([distinct, pa.array([ABSENT], pa.large_string())])
        indices = pa.array(np.where(missing, 0, codes).astype(np.int32), mask=missing if missing.any() else None)
        carried[f"s:{name}"] = pa.DictionaryArray.from_arrays(indices, distinct)
    return carried


def clean_impressions(table: pa.Table, plan: Plan) -> Cleaned:
    """Impressions in carried columns. A position must be 1 or more; ids and time must be there."""
    reasons = Reasons(len(table))
    codes, texts = as_coded(table.column("search_id"), "search_id")
    search = _hashed_ids(codes, texts, "search_id", reasons, required=True)
    item = clean_ids(table, "item_id", reasons, required=True)
    times = clean_times(table, reasons)
    positions, null, wrong = as_integers(table.column("position"), "position")
    reasons.mark(null, "position is null")
    reasons.mark(wrong | (~null & ((positions < 1) | (positions >= 2**31))), "position is not a whole number from 1 on")
    carried: dict[str, pa.Array] = {
        "customer": pa.array(clean_ids(table, "customer_id", reasons, required=False)),
        "search": pa.array(search),
        "item": pa.array(item),
        "time": pa.array(times),
        "position": pa.array(np.clip(positions, 0, 2**31 - 1).astype(np.int32)),
        "is_list": pa.array(_in_domains(table, (SEARCH_DOMAIN,), null=True)),
    }
    if plan.needs_query:
        carried["query"] = pa.array(clean_ids(table, "query", reasons, required=False))
    if plan.es3.searchify:
        carried["elsewhere"] = pa.array(_in_domains(table, plan.es3.searchify, null=False))
    wanted = plan.columns("impression")
    carried |= clean_features(_supplied(table, wanted), wanted, reasons)
    good = reasons.good
    return Cleaned(_kept(carried, good), reasons.items(), searches=(codes[good], texts))


def _kept(carried: dict[str, pa.Array], good: np.ndarray) -> pa.Table:
    table = pa.table(carried)
    return table if good.all() else table.filter(pa.array(good))


def _in_domains(table: pa.Table, domains: Sequence[str], null: bool) -> np.ndarray:
    """Which rows have one of the domains, bool [R]; `null` for those that name none."""
    if "domain" not in table.column_names:
        return np.full(len(table), null)
    codes, distinct = as_coded(table.column("domain"), "domain")
    return np.append(np.isin(distinct.to_numpy(zero_copy_only=False).astype(object), domains), null)[codes]


def _supplied(table: pa.Table, wanted: Collection[str]) -> pa.Table:
    """Impressions with what a log need not say, where features read it: they were exposed, and a missing or null domain is search."""
    if EXPOSURE in wanted:
        table = _with(table, EXPOSURE, EXPOSED)
    if DOMAIN in wanted:
        table = _with(table, DOMAIN, SEARCH_DOMAIN)
        values = as_text(table.column(DOMAIN), DOMAIN).fill_null(SEARCH_DOMAIN)
        table = table.set_column(table.column_names.index(DOMAIN), DOMAIN, values)
    return table


def _with(table: pa.Table, name: str, value: str | None) -> pa.Table:
    """A table that has a text column; where it lacks it, one that holds the value everywhere."""
    if name in table.column_names:
        return table
    return table.append_column(name, pa.repeat(pa.scalar(value, pa.large_string()), len(table)))


def clean_engagements(table: pa.Table, plan: Plan) -> Cleaned:
    """Engagements in carried columns; those whose event the spec does not name are counted and left out."""
    reasons = Reasons(len(table))
    item = clean_ids(table, "item_id", reasons, required=True)
    times = clean_times(table, reasons)
    codes, distinct = as_coded(table.column("event"), "event")
    names = distinct.to_pylist()
    lookup = np.array([plan.event_names.index(n) if n in plan.event_names else -1 for n in names] + [-1], np.int64)
    reserved = np.array([n == IMPRESSION for n in names] + [False])
    reasons.mark(codes == len(names), "event is null")
    reasons.mark(reserved[codes], f"event {IMPRESSION!r} is reserved for impressions")
    carried = {
        "customer": pa.array(clean_ids(table, "customer_id", reasons, required=False)),
        "search": pa.array(clean_ids(table, "search_id", reasons, required=False)),
        "item": pa.array(item),
        "time": pa.array(times),
        "event": pa.array(lookup[codes].astype(np.int16)),
        "event_id": pa.array(clean_ids(table, "event_id", reasons, required=False)),
    }
    if plan.es3.attribute_elsewhere:
        carried["elsewhere"] = pa.array(~_in_domains(table, (SEARCH_DOMAIN,), null=True))
    good = reasons.good
    seen = np.bincount(codes[good], minlength=len(names) + 1)
    keep = good & (lookup[codes] >= 0)
    events = {str(name): int(count) for name, count in zip(names, seen[:-1], strict=True) if count}
    return Cleaned(_kept(carried, keep), reasons.items(), events)


def clean_items(table: pa.Table, plan: Plan) -> Cleaned:
    """Items in carried columns."""
    reasons = Reasons(len(table))
    carried: dict[str, pa.Array] = {"item": pa.array(clean_ids(table, "item_id", reasons, required=True))}
    carried |= clean_features(table, plan.columns("item"), reasons)
    return Cleaned(_kept(carried, reasons.good), reasons.items())


def clean_candidates(table: pa.Table, plan: Plan) -> Cleaned:
    """Un-exposed candidates in carried columns. They have no position: features of it are missing."""
    reasons = Reasons(len(table))
    carried: dict[str, pa.Array] = {
        "customer": pa.array(clean_ids(table, "customer_id", reasons, required=False)),
        "search": pa.array(clean_ids(table, "search_id", reasons, required=True)),
        "item": pa.array(clean_ids(table, "item_id", reasons, required=True)),
    }
    own = table.drop_columns([name for name in ("position", EXPOSURE) if name in table.column_names])
    own = _with(_with(own, "position", None), EXPOSURE, UNEXPOSED)
    carried |= clean_features(own, plan.candidate_columns, reasons)
    return Cleaned(_kept(carried, reasons.good), reasons.items())


CLEANERS = {IMPRESSIONS: clean_impressions, ENGAGEMENTS: clean_engagements, ITEMS: clean_items, CANDIDATES: clean_candidates}


def places_of(table: pa.Table, partitions: int) -> np.ndarray:
    """The hash partition of each row: of its customer, else of its search, else of its item. int64 [R]."""
    keys = column(table, "customer")
    if (keys == PAD).any():
        search, item = column(table, "search"), column(table, "item")
        keys = np.where(keys != PAD, keys, np.where(search != PAD, search, item))
    return (keys.view(np.uint64) % np.uint64(partitions)).astype(np.int64)
