"""Hierarchical attribution: engagements that happened in another domain label the samples of searches (UniScale, ES3 rule 2).

An engagement of a task is a *signal from elsewhere* if ordinary attribution labels no impression of a search with it, and it either labels
one of another domain, or labels none and its own `domain` is another. Its samples are those of training searches of the same customer with
the same item and 0 <= delay <= window. It labels exactly one of them, of the first tier that has one:

    a click (a task with the click's event)    exposed -> unexposed
    any other task                             clicked -> exposed -> unexposed

`clicked` was clicked in the search itself, at or before the engagement. Within a tier the latest sample counts, of several at one
millisecond the greater hash of the search id, then the smaller position. An engagement that labels a sample here is taken from the
impression of the other domain that it labelled, so that it counts once.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from cvr.schema import Task
from cvr.transforms import PAD
from pipelines.attribution import NONE, Matches, task_delays
from pipelines.batches import column, mix
from pipelines.counts import Counts
from pipelines.lists import DELAY, UNSHOWN
from pipelines.settings import Plan

TIERS = ("clicked", "exposed", "unexposed")
_NEVER = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class _Samples:
    """Rows of training searches: keys of customer and item, times, hashes of searches, positions, and when each was clicked. [M] each."""

    rows: np.ndarray
    keys: np.ndarray
    times: np.ndarray
    search: np.ndarray
    position: np.ndarray
    clicked_at: np.ndarray


def pairs_within(
    keys: tuple[np.ndarray, np.ndarray], times: tuple[np.ndarray, np.ndarray], window: int
) -> tuple[np.ndarray, np.ndarray]:
    """All (sample, event) of one key with 0 <= time of the event - time of the sample <= window; [P] places in each.

    `keys` and `times` are those of samples and of events. Only pairs within the window are made.
    """
    _, codes = np.unique(np.concatenate(keys), return_inverse=True)
    stamps = np.unique(np.concatenate([*times, times[1] - window]))
    samples, events = (part.astype(np.int64) * len(stamps) for part in np.split(codes.reshape(-1), [len(keys[0])]))
    joint = samples + np.searchsorted(stamps, times[0])
    order = np.argsort(joint, kind="stable")
    low = np.searchsorted(joint[order], events + np.searchsorted(stamps, times[1] - window), side="left")
    high = np.searchsorted(joint[order], events + np.searchsorted(stamps, times[1]), side="right")
    found = high - low
    within = np.arange(int(found.sum())) - np.repeat(np.cumsum(found) - found, found)
    return order[np.repeat(low, found) + within], np.repeat(np.arange(len(found)), found)


def best_sample(samples: _Samples, keys: np.ndarray, times: np.ndarray, window: int, click: bool) -> tuple[np.ndarray, np.ndarray]:
    """(row, tier) of the sample that each event [E] labels, NONE where there is none; `click` says whether the events are clicks."""
    sample, event = pairs_within((samples.keys, keys), (samples.times, times), window)
    exposed = samples.position[sample] != UNSHOWN
    clicked = exposed & (samples.clicked_at[sample] <= times[event]) & (not click)
    tier = np.where(clicked, 0, np.where(exposed, 1, 2))
    order = np.lexsort((samples.position[sample], -samples.search[sample], -samples.times[sample], tier, event))
    first = order[np.append(True, event[order][1:] != event[order][:-1])[: len(order)]]
    row, place = np.full(len(keys), NONE, np.int64), np.full(len(keys), NONE, np.int64)
    row[event[first]], place[event[first]] = samples.rows[sample[first]], tier[first]
    return row, place


class Attribution:
    """Labels of a partition's rows, ordinary ones and those from elsewhere.

    `shown` are impressions with their ordinary delays and `samples` says which of `rows`, impressions first and then candidates, are of
    training searches (bool [M]).
    """

    def __init__(self, shown: pa.Table, rows: pa.Table, samples: np.ndarray, engagements: pa.Table, plan: Plan) -> None:
        self._plan, self._rows, self._engagements = plan, rows, engagements
        self._count = len(shown)
        self._matches = Matches(shown, engagements)
        self._last = self._matches.last()
        self._of_search = column(shown, "is_list")
        self._times = column(shown, "time"), column(engagements, "time")
        searches = shown.filter(pa.array(self._of_search))
        last_search = Matches(searches, engagements).last()
        self._has_search = last_search >= 0
        self._last_search_time = np.append(column(searches, "time"), 0)[last_search]
        self._samples = self._samples_of(samples)

    def _samples_of(self, mask: np.ndarray) -> _Samples:
        customer = column(self._rows, "customer")
        chosen = np.flatnonzero(mask & (customer != PAD))
        names = ("item", "time", "search", "position")
        item, times, search, position = (column(self._rows, name)[chosen] for name in names)
        click = next(name for name, task in self._plan.tasks.items() if self._plan.es3.click_event in task.events)
        delay = column(self._rows, f"{DELAY}{click}")[chosen]
        clicked_at = np.where(delay >= 0, times + delay, _NEVER)
        return _Samples(chosen, mix(customer[chosen], item), times, search, position, clicked_at)

    def _in_search(self, inside: np.ndarray, task: Task) -> np.ndarray:
        """Which engagements with a candidate, of the mask [E], ordinary attribution credits to an impression of a search. bool [E]."""
        if task.credit == "all":
            return inside & self._has_search & (self._times[1] - self._last_search_time <= task.window)
        row = self._last if task.credit == "last" else self._matches.first(inside, task.window)
        return inside & np.append(self._of_search, False)[row]

    def of_task(self, task: Task) -> tuple[np.ndarray, Counts]:
        """The task's delays of all rows, NONE without a label (int64 [M]), and its counts of signals by tier."""
        events = self._engagements
        of_task = np.isin(column(events, "event"), self._plan.codes(task.events))
        waited = self._times[1] - np.append(self._times[0], 0)[self._last]
        inside = of_task & (self._last >= 0) & (waited <= task.window)
        signal = of_task & ~self._in_search(inside, task) & (inside | column(events, "elsewhere"))
        named = np.flatnonzero(signal & (column(events, "customer") != PAD))
        keys = mix(column(events, "customer")[named], column(events, "item")[named])
        click = self._plan.es3.click_event in task.events
        row, tier = best_sample(self._samples, keys, self._times[1][named], task.window, click)
        moved = np.zeros(len(signal), bool)
        moved[named[row >= 0]] = True
        delay = np.full(len(self._rows), _NEVER, np.int64)
        ordinary = task_delays(self._matches, self._last, inside & ~moved, self._times, task)[task.credit]
        delay[: self._count] = np.where(ordinary >= 0, ordinary, _NEVER)
        before = delay < _NEVER
        np.minimum.at(delay, row[row >= 0], self._times[1][named[row >= 0]] - column(self._rows, "time")[row[row >= 0]])
        counts: Counts = {"signals": int(signal.sum()), "from_other_lists": int((moved & inside).sum())}
        counts |= {name: int((tier == place).sum()) for place, name in enumerate(TIERS)}
        counts |= {"nowhere": int(signal.sum() - moved.sum()), "new_labels": int(((delay < _NEVER) & ~before).sum())}
        return np.where(delay == _NEVER, NONE, delay), counts


def attribute(shown: pa.Table, rows: pa.Table, samples: np.ndarray, engagements: pa.Table, plan: Plan) -> tuple[pa.Table, Counts]:
    """`rows` with the labels of all tasks as they are with signals from elsewhere, and the counts of each task."""
    found = Attribution(shown, rows, samples, engagements, plan)
    counts: Counts = {}
    for name, task in plan.tasks.items():
        delay, counts[name] = found.of_task(task)
        rows = rows.set_column(rows.column_names.index(f"{DELAY}{name}"), f"{DELAY}{name}", pa.array(delay))
    return rows, counts
