"""Which impression an engagement is credited to, and each impression's labels and delays.

An engagement that has a search id belongs to the impression of its item in that search; one without belongs to the last impression of
its item to its customer at or before its time (PAPERS R10, R11). Impressions of all domains take part. Where several impressions fit,
the latest wins; at the same time the greater hash of the search id, then the smaller position. An engagement earlier than every fitting
impression has none. A task's window starts at the impression and includes its last millisecond: 0 <= delay <= window.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from cvr.transforms import PAD
from pipelines.batches import column, mix
from pipelines.counts import Counts, delay_histogram
from pipelines.settings import Plan

NONE = -1


def last_before(
    keys: np.ndarray, times: np.ndarray, ties: tuple[np.ndarray, ...], event_keys: np.ndarray, event_times: np.ndarray
) -> np.ndarray:
    """For each event the row of the last candidate with its key and time <= the event's time; NONE without one. int64 [E].

    `keys`, `times` [I] and `ties` (each [I]; the most significant first, greater wins) describe candidates. One sort of all rows.
    """
    count, events = len(keys), len(event_keys)
    is_event = np.repeat([0, 1], [count, events])
    zeros = np.zeros(events, np.int64)
    order = np.lexsort(
        (
            *(np.concatenate([tie, zeros]) for tie in reversed(ties)),
            is_event,
            np.concatenate([times, event_times]),
            np.concatenate([keys, event_keys]),
        )
    )
    all_keys = np.concatenate([keys, event_keys])
    place = np.where(order < count, np.arange(len(order)), NONE)
    latest = np.maximum.accumulate(place) if len(place) else place
    candidate = np.where(latest >= 0, order[np.maximum(latest, 0)], 0) if len(order) else latest
    fits = (latest >= 0) & (all_keys[candidate] == all_keys[order]) if len(order) else latest.astype(bool)
    credited = np.full(count + events, NONE, np.int64)
    credited[order] = np.where(fits, candidate, NONE)
    return credited[count:]


def credit(impressions: pa.Table, engagements: pa.Table) -> np.ndarray:
    """The row of the impression that each engagement is credited to, or NONE. int64 [E]."""
    shown = {name: column(impressions, name) for name in ("customer", "search", "item", "time", "position")}
    done = {name: column(engagements, name) for name in ("customer", "search", "item", "time")}
    credited = np.full(len(engagements), NONE, np.int64)
    for scope, chosen in (
        ("search", done["search"] != PAD),
        ("customer", (done["search"] == PAD) & (done["customer"] != PAD)),
    ):
        rows = np.flatnonzero(chosen)
        keys = mix(shown[scope], shown["item"])
        wanted = mix(done[scope][rows], done["item"][rows])
        near = np.flatnonzero(np.isin(keys, wanted))
        found = last_before(
            keys[near],
            shown["time"][near],
            (shown["search"][near], -shown["position"][near]),
            wanted,
            done["time"][rows],
        )
        credited[rows] = np.where(found >= 0, near[np.maximum(found, 0)] if len(near) else NONE, NONE)
    return credited


@dataclasses.dataclass(frozen=True)
class Labels:
    """Per impression and task the delay of its first engagement in ms, NONE without one (int64 [I, T]); and what was counted."""

    delay: np.ndarray
    counts: Counts


def label(impressions: pa.Table, engagements: pa.Table, credited: np.ndarray, plan: Plan) -> Labels:
    """Labels impressions with the engagements credited to them that lie in each task's window."""
    times, events = column(engagements, "time"), column(engagements, "event")
    shown_at = column(impressions, "time")
    delays = np.where(credited >= 0, times - shown_at[np.maximum(credited, 0)], NONE) if len(shown_at) else credited
    never = np.iinfo(np.int64).max
    first = np.full((len(impressions), len(plan.tasks)), never, np.int64)
    counts: Counts = {}
    for index, (name, task) in enumerate(plan.tasks.items()):
        of_task = np.isin(events, plan.codes(task.events))
        inside = of_task & (credited >= 0) & (delays <= task.window)
        np.minimum.at(first[:, index], credited[inside], delays[inside])
        counts[name] = {
            "attributed": int(inside.sum()),
            "out_of_window": int((of_task & (credited >= 0) & (delays > task.window)).sum()),
            "unattributed": int((of_task & (credited < 0)).sum()),
            "delay_histogram": delay_histogram(delays[of_task & (credited >= 0)]),
        }
    return Labels(np.where(first == never, NONE, first), counts)
