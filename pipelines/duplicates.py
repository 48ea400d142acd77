"""Rows that stand in a log more than once, of which the earliest counts: an impression is (search, item, position), an engagement its
event id; engagements without an event id are all kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.transforms import PAD
from pipelines.batches import column, mix
from pipelines.counts import Counts
from pipelines.normalise import ENGAGEMENTS, IMPRESSIONS
from pipelines.settings import Plan

KEYS = {IMPRESSIONS: ("search", "item", "position"), ENGAGEMENTS: ("event_id",)}
"""The columns that make up a row's key."""


def row_keys(name: str, table: pa.Table) -> np.ndarray:
    """What copies of a row have in common; PAD for a row that is not recognised. int64 [R]."""
    first, *others = (column(table, part) for part in KEYS[name])
    for other in others:
        first = mix(first, other)
    return first


def first_copies(keys: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mask of the earliest row of each key, the first of those at one time, and of all rows of key PAD; bool [R]."""
    known = np.flatnonzero(keys != PAD)
    mask = np.ones(len(keys), bool)
    rows = known[pd.Series(keys[known]).duplicated(keep=False).to_numpy()]
    rows = rows[np.lexsort((times[rows], keys[rows]))]
    mask[rows[1:]] = keys[rows[1:]] != keys[rows[:-1]]
    return mask


def counted(impressions: int, events: np.ndarray, plan: Plan) -> Counts:
    """The counts of copies that were left out: impressions, and engagements by their event codes [E], also by task."""
    tasks = {name: {"duplicate": int(np.isin(events, plan.codes(task.events)).sum())} for name, task in plan.tasks.items()}
    return {"duplicates": {IMPRESSIONS: impressions, ENGAGEMENTS: len(events)}, "attribution": tasks}


def without_copies(tables: dict[str, pa.Table], plan: Plan) -> tuple[dict[str, pa.Table], Counts]:
    """Tables of which impressions and engagements hold each row once, and the counts of the others."""
    masks = {name: first_copies(row_keys(name, tables[name]), column(tables[name], "time")) for name in KEYS}
    kept = {name: tables[name] if mask.all() else tables[name].filter(pa.array(mask)) for name, mask in masks.items()}
    gone = column(tables[ENGAGEMENTS], "event")[~masks[ENGAGEMENTS]]
    return {**tables, **kept}, counted(int((~masks[IMPRESSIONS]).sum()), gone, plan)
