"""Impressions of a partition -> search lists: which rows form a list, in which order, which lists are kept and for which split."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.records import ListColumns
from pipelines.batches import column, mix
from pipelines.counts import Counts, tally
from pipelines.settings import Plan, Settings

DELAY = "delay:"
"""Columns with the delay of each task's first engagement in ms, -1 without one, are named so."""
UNSHOWN = 2**31 - 1
"""The position of an un-exposed item, so that it stands behind what was shown; records hold 0."""


@dataclasses.dataclass(frozen=True)
class Lists:
    """L lists with N rows in all: `rows` are sorted by list time, search and position; a list's rows are adjacent.

    `lengths`, `time` (the earliest impression's), `split` (index into `Settings.splits()`) are [L].
    """

    rows: pa.Table
    lengths: np.ndarray
    time: np.ndarray
    split: np.ndarray

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """The first row of each list, int64 [L]."""
        return np.cumsum(self.lengths) - self.lengths

    @functools.cached_property
    def delay(self) -> np.ndarray:
        """Delays of each row and task in ms, -1 without an engagement; int64 [N, T]."""
        names = [name for name in self.rows.column_names if name.startswith(DELAY)]
        return np.stack([column(self.rows, name) for name in names], axis=1)


def arrange(impressions: pa.Table) -> Lists:
    """Groups impressions by search and sorts lists by (time, search) and items by (position, item); nothing is left out."""
    search, times, position = (column(impressions, name) for name in ("search", "time", "position"))
    codes, found = pd.factorize(search)
    lists = len(found)
    earliest = np.full(lists, np.iinfo(np.int64).max)
    np.minimum.at(earliest, codes, times)
    by_time = np.lexsort((found, earliest))
    rank = np.empty(lists, np.int64)
    rank[by_time] = np.arange(lists)
    ranks = rank[codes]
    joint = ranks * (int(position.max(initial=0)) + 1) + position
    order = np.argsort(joint, kind="stable")
    if (joint[order[1:]] == joint[order[:-1]]).any():
        order = np.lexsort((column(impressions, "item"), joint))
    lengths = np.bincount(ranks, minlength=lists).astype(np.int64)
    rows = impressions if (order[1:] > order[:-1]).all() else impressions.take(pa.array(order))
    return Lists(rows, lengths, earliest[by_time], np.full(lists, -1, np.int64))


def pick(lists: Lists, chosen: np.ndarray) -> Lists:
    """Only the lists of a mask [L]."""
    if chosen.all():
        return lists
    rows = lists.rows.filter(pa.array(np.repeat(chosen, lists.lengths)))
    return Lists(rows, lists.lengths[chosen], lists.time[chosen], lists.split[chosen])


def split_of(times: np.ndarray, settings: Settings) -> np.ndarray:
    """The split of lists at times [L], an index into `settings.splits()`, -1 outside the asked range; int64 [L]."""
    split = np.full(len(times), -1, np.int64)
    for index, (_, low, high) in enumerate(settings.splits()):
        inside = np.ones(len(times), bool)
        if low is not None:
            inside &= times >= low
        if high is not None:
            inside &= times < high
        split[inside] = index
    return split


def sampled(searches: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Which lists a seeded sample of a rate holds, by the hash of their search ids alone; a smaller rate's sample is part of it. [L]."""
    drawn = mix(mix(searches, np.full(len(searches), seed, np.int64)), searches)
    return drawn < int(rate * 2**63) if rate < 1 else np.ones(len(searches), bool)


def select(lists: Lists, plan: Plan, settings: Settings, log_end: int) -> tuple[Lists, Counts]:
    """Keeps search lists of the asked time range whose windows are over, drops those without the primary engagement where told, and
    samples those of the training split.

    A list is mature when its latest impression + the longest window of a censoring task <= the log's end (PAPERS R12, R16).
    """
    if not len(lists.lengths):
        return lists, {}
    window = max((task.window for task in plan.tasks.values() if task.censor), default=0)
    latest = np.maximum.reduceat(column(lists.rows, "time"), lists.starts)
    split = split_of(lists.time, settings)
    primary = list(plan.tasks).index(plan.spec.primary_task)
    converted = np.maximum.reduceat(lists.delay[:, primary], lists.starts) >= 0
    names = [name for name, _, _ in settings.splits()]
    must_convert = {"none": (), "train": ("train", "validation"), "all": tuple(names)}[settings.drop_unconverted]
    drops = np.isin(split, [index for index, name in enumerate(names) if name in must_convert])
    drawn = sampled(column(lists.rows, "search")[lists.starts], settings.sampling_rate, settings.sampling_seed)
    reasons = {
        "other_domain": ~column(lists.rows, "is_list")[lists.starts],
        "out_of_range": split < 0,
        "immature": latest + window > log_end,
        "unconverted": drops & ~converted,
        "not_sampled": (split == names.index("train")) & ~drawn,
    }
    left, counts = np.ones(len(split), bool), {"seen": len(split)}
    for reason, mask in reasons.items():
        counts[reason] = int((left & mask).sum())
        left &= ~mask
    counts["kept"] = int(left.sum())
    return pick(dataclasses.replace(lists, split=split), left), {"lists": counts}


def describe(columns: ListColumns, chosen: np.ndarray, plan: Plan) -> Counts:
    """What the chosen lists (mask [L], at least one) hold: lists, items, labels, lists with a label, times, lengths, the position curve."""
    rows = np.repeat(chosen, columns.lengths)
    labels, positions = columns.labels[rows], columns.position[rows]
    of_list = np.repeat(np.arange(len(chosen)), columns.lengths)[rows]
    found: Counts = {
        "lists": int(chosen.sum()),
        "items": int(rows.sum()),
        "max_list_size": int(columns.lengths[chosen].max()),
        "first_time": int(columns.time[chosen].min()),
        "last_time": int(columns.time[chosen].max()),
        "list_lengths": tally(columns.lengths[chosen]),
        "positions": {"impressions": tally(positions)},
        "labels": {},
        "lists_with": {},
    }
    for index, task in enumerate(plan.tasks):
        positive = labels[:, index] > 0
        found["labels"][task] = int(positive.sum())
        found["lists_with"][task] = int(np.count_nonzero(np.bincount(of_list[positive])))
        found["positions"][task] = tally(positions[positive])
    return found
