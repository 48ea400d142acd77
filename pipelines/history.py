"""Behaviour sequences: the last K engagements of a customer strictly before a search, most recent first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cvr.records import Histories
from cvr.schema import History
from cvr.transforms import FIRST_ID, PAD, UNSEEN
from pipelines.batches import column
from pipelines.settings import Plan


def count_before(
    keys: np.ndarray, times: np.ndarray, wanted: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For rows sorted by (key, time): (first row of the wanted key, first row not strictly before `at`), int64 [L] each."""
    starts = np.searchsorted(keys, wanted, side="left")
    stamps = np.concatenate([times, at])
    distinct, codes = np.unique(stamps, return_inverse=True)
    _, key_codes = np.unique(np.concatenate([keys, wanted]), return_inverse=True)
    joint = key_codes.astype(np.int64) * (len(distinct) + 1) + codes
    return starts, np.searchsorted(joint[: len(keys)], joint[len(keys) :], side="left")


def histories(
    engagements: pa.Table, customers: np.ndarray, times: np.ndarray, history: History, plan: Plan
) -> Histories:
    """Histories of L lists given their customers (PAD: none) and times. Events of one millisecond come in the order of the spec's names.

    `action` is 4 + the event's place in `history.events`; `age` is the seconds from the event to the search.
    """
    codes = plan.codes(history.events)
    actions = np.full(len(plan.event_names) + 1, -1, np.int64)
    actions[codes] = np.arange(len(codes))
    events = actions[column(engagements, "event")]
    owner = column(engagements, "customer")
    rows = np.flatnonzero((events >= 0) & (owner != PAD))
    item, at = column(engagements, "item"), column(engagements, "time")
    rows = rows[np.lexsort((item[rows], -events[rows], at[rows], owner[rows]))]
    starts, ends = count_before(owner[rows], at[rows], customers, times)
    lengths = np.where(customers == PAD, 0, np.minimum(ends - starts, history.length))
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chosen = rows[np.repeat(ends, lengths) - 1 - within] if len(within) else np.zeros(0, np.int64)
    ages = (np.repeat(times, lengths) - at[chosen]) / 1000.0
    return Histories(item[chosen], FIRST_ID + events[chosen], ages.astype(np.float32), lengths.astype(np.int64))


def with_unseen(found: Histories, unseen: np.ndarray) -> Histories:
    """Replaces the histories of the masked lists by one event of item and action UNSEEN: the feature did not exist yet."""
    if not unseen.any():
        return found
    keep = np.repeat(~unseen, found.lengths)
    lengths = np.where(unseen, 0, found.lengths)
    places = np.repeat(np.cumsum(lengths)[unseen], 1)
    return Histories(
        np.insert(found.item[keep], places, UNSEEN),
        np.insert(found.action[keep], places, UNSEEN),
        np.insert(found.age[keep], places, 0.0).astype(np.float32),
        np.where(unseen, 1, found.lengths),
    )
