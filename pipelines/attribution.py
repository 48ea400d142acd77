"""Which impressions an engagement is credited to, and each impression's labels and delays.

An engagement with a search id can only come from the impressions of its item in that search; one without, from those of its item to its
customer (PAPERS R10, R11). Impressions of all domains take part. Of these, a task's candidates are the impressions with
0 <= engagement time - impression time <= window, both ends included; the task credits the `last` of them, the `first`, or `all`. Several at
one millisecond: the greater hash of the search id, then the smaller position.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.schema import Task
from cvr.transforms import PAD
from pipelines.batches import column, mix
from pipelines.counts import Counts, delay_histogram
from pipelines.settings import Plan

NONE = -1
_NEVER = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class _Side:
    """Rows of impressions or engagements that share a key with the other side: places in the table, key codes, times; [M] each."""

    rows: np.ndarray
    codes: np.ndarray
    times: np.ndarray


def _keys(table: pa.Table, scope: str) -> np.ndarray:
    return mix(column(table, scope), column(table, "item"))


def _perhaps_in(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows whose key's lowest 20 bits are those of a wanted key: all that are wanted and few others, found without a hash table."""
    low = np.int64(2**20 - 1)
    there = np.zeros(2**20, bool)
    there[wanted & low] = True
    return np.flatnonzero(there[keys & low])


def _meet(impressions: pa.Table, engagements: pa.Table) -> tuple[_Side, _Side]:
    """The rows that may belong together: equal codes, and only those, mean the same search or customer and the same item."""
    search, customer = column(engagements, "search"), column(engagements, "customer")
    scopes = {"search": search != PAD, "customer": (search == PAD) & (customer != PAD)}
    shown: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    wanted = np.full(len(engagements), NONE, np.int64)
    offset = 0
    for scope, chosen in scopes.items():
        if not chosen.any():
            continue
        events = np.flatnonzero(chosen)
        found, distinct = pd.factorize(_keys(engagements, scope)[events])
        wanted[events] = found + offset
        keys = _keys(impressions, scope)
        rows = _perhaps_in(keys, distinct)
        place = pd.Index(distinct).get_indexer(keys[rows])
        shown.append(rows[place >= 0])
        codes.append(place[place >= 0] + offset)
        offset += len(distinct)
    rows = np.concatenate([*shown, np.zeros(0, np.int64)])
    events = np.flatnonzero(wanted >= 0)
    return (
        _Side(rows, np.concatenate([*codes, np.zeros(0, np.int64)]), column(impressions, "time")[rows]),
        _Side(events, wanted[events], column(engagements, "time")[events]),
    )


class Matches:
    """The impressions that engagements may come from, ready to be asked for each rule.

    Times are replaced by their ranks among all times at hand, so that (key, time) fits one integer whatever the times are.
    """

    def __init__(self, impressions: pa.Table, engagements: pa.Table) -> None:
        self._shown, self._done = _meet(impressions, engagements)
        self._sizes = len(impressions), len(engagements)
        self._stamps = np.unique(np.concatenate([self._shown.times, self._done.times]))
        self._of_shown = self._joint(self._shown.codes, self._shown.times)
        self._of_done = self._joint(self._done.codes, self._done.times)
        search, position = column(impressions, "search"), column(impressions, "position")
        self._ties = search[self._shown.rows], -position[self._shown.rows]
        self._order = self._sorted(self._ties)

    def _joint(self, codes: np.ndarray, times: np.ndarray) -> np.ndarray:
        """One integer that sorts as (key, time) does; a time between two known ones counts as the later one."""
        return codes * (len(self._stamps) + 1) + np.searchsorted(self._stamps, times)

    def _sorted(self, ties: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        order = np.argsort(self._of_shown, kind="stable")
        ordered = self._of_shown[order]
        if not (ordered[1:] == ordered[:-1]).any():
            return order
        return np.lexsort((ties[1], ties[0], self._of_shown))

    def last(self) -> np.ndarray:
        """For each engagement the row of its last possible impression at or before it, NONE without one. int64 [E]."""
        place = np.searchsorted(self._of_shown[self._order], self._of_done, side="right") - 1
        return self._rows(self._order, place, np.arange(len(place)))

    def first(self, chosen: np.ndarray, window: int) -> np.ndarray:
        """For each engagement of the mask [E] the row of its first possible impression within `window` ms before it, else NONE. [E]."""
        events = np.flatnonzero(chosen[self._done.rows])
        order = self._sorted((-self._ties[0], -self._ties[1]))
        earliest = self._joint(self._done.codes[events], self._done.times[events] - window)
        return self._rows(order, np.searchsorted(self._of_shown[order], earliest, side="left"), events)

    def _rows(self, order: np.ndarray, place: np.ndarray, events: np.ndarray) -> np.ndarray:
        """Impression rows at places of an order, where they have the engagement's key and are not later than it."""
        credited = np.full(self._sizes[1], NONE, np.int64)
        if not len(order):
            return credited
        candidate = order[np.clip(place, 0, len(order) - 1)]
        fits = (place >= 0) & (place < len(order)) & (self._shown.codes[candidate] == self._done.codes[events])
        fits &= self._shown.times[candidate] <= self._done.times[events]
        credited[self._done.rows[events]] = np.where(fits, self._shown.rows[candidate], NONE)
        return credited

    def delays(self, chosen: np.ndarray) -> np.ndarray:
        """For each impression the ms to the first engagement of the mask [E] at or after it that it may have led to, else never. [I]."""
        first = np.full(self._sizes[0], _NEVER, np.int64)
        events = np.flatnonzero(chosen[self._done.rows])
        if not len(events):
            return first
        events = events[np.argsort(self._of_done[events], kind="stable")]
        place = np.searchsorted(self._of_done[events], self._of_shown, side="left")
        event = events[np.minimum(place, len(events) - 1)]
        fits = np.flatnonzero((place < len(events)) & (self._done.codes[event] == self._shown.codes))
        np.minimum.at(first, self._shown.rows[fits], self._done.times[event[fits]] - self._shown.times[fits])
        return first


@dataclasses.dataclass(frozen=True)
class Labels:
    """What attribution found: `delay` of each impression's first credited engagement per task in ms, NONE without one (int64 [I, T]);
    `credited` [E], the row of an engagement's last impression within the longest window, or NONE; and what was counted."""

    delay: np.ndarray
    credited: np.ndarray
    counts: Counts


def _first_delays(rows: np.ndarray, events: np.ndarray, shown_at: np.ndarray, done_at: np.ndarray) -> np.ndarray:
    """Per impression the ms to the first of `events`, each credited to its row of `rows` [E]; NONE without one. int64 [I]."""
    delays = np.full(len(shown_at), _NEVER, np.int64)
    np.minimum.at(delays, rows[events], done_at[events] - shown_at[rows[events]])
    return np.where(delays == _NEVER, NONE, delays)


def task_delays(
    matches: Matches, last: np.ndarray, inside: np.ndarray, times: tuple[np.ndarray, np.ndarray], task: Task
) -> dict[str, np.ndarray]:
    """Delays of the task's first engagement under each credit rule, NONE without one: {rule: int64 [I]}.

    `inside` [E] are the task's engagements with a candidate; `times` those of impressions and of engagements.
    """
    events = np.flatnonzero(inside)
    after = matches.delays(inside)
    return {
        "last": _first_delays(last, events, *times),
        "first": _first_delays(matches.first(inside, task.window), events, *times),
        "all": np.where(after <= task.window, after, NONE),
    }


def attribute(
    impressions: pa.Table, engagements: pa.Table, plan: Plan, owned: tuple[np.ndarray, np.ndarray] | None = None
) -> Labels:
    """Credits engagements and labels impressions, task by task.

    `owned` are masks of the impressions [I] and engagements [E] that are counted here; the others are counted by another partition.
    """
    times = column(impressions, "time"), column(engagements, "time")
    codes = column(engagements, "event")
    own_shown, own_done = owned or (np.ones(len(times[0]), bool), np.ones(len(times[1]), bool))
    matches = Matches(impressions, engagements)
    last = matches.last()
    waited = times[1] - np.append(times[0], 0)[last]
    delay = np.full((len(times[0]), len(plan.tasks)), NONE, np.int64)
    counts: Counts = {}
    for index, (name, task) in enumerate(plan.tasks.items()):
        of_task = np.isin(codes, plan.codes(task.events))
        inside = of_task & (last >= 0) & (waited <= task.window)
        found = task_delays(matches, last, inside, times, task)
        delay[:, index] = found[task.credit]
        mine = of_task & own_done
        counts[name] = {
            "attributed": int((inside & own_done).sum()),
            "out_of_window": int((mine & (last >= 0) & (waited > task.window)).sum()),
            "unattributed": int((mine & (last < 0)).sum()),
            "labels": {rule: int(((values >= 0) & own_shown).sum()) for rule, values in found.items()},
            "delay_histogram": delay_histogram(waited[mine & (last >= 0)]),
        }
    window = max(task.window for task in plan.tasks.values())
    return Labels(delay, np.where((last >= 0) & (waited <= window), last, NONE), counts)
