"""Impressions of a partition -> search lists: which rows form a list, in which order, which lists are kept and for which split."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from pipelines.batches import column
from pipelines.counts import Counts, tally
from pipelines.settings import Plan, Settings

DAY_MS = 86_400_000


@dataclasses.dataclass(frozen=True)
class Lists:
    """L lists with N rows in all: `rows` are sorted by list time, search and position; a list's rows are adjacent.

    `starts`, `lengths`, `time` (the earliest impression's), `split` (index into `Settings.splits()`) are [L]; `delay` is [N, T].
    """

    rows: pa.Table
    delay: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    time: np.ndarray
    split: np.ndarray

    @property
    def list_of_row(self) -> np.ndarray:
        """The list that each row belongs to, int64 [N]."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def days(self) -> np.ndarray:
        """Days since the epoch (UTC) of the lists, int64 [L]."""
        return self.time // DAY_MS


def arrange(impressions: pa.Table, delay: np.ndarray) -> Lists:
    """Groups impressions by search and sorts lists by (time, search) and items by (position, item); nothing is left out."""
    search, times = column(impressions, "search"), column(impressions, "time")
    _, code = np.unique(search, return_inverse=True)
    lists = int(code.max()) + 1 if len(code) else 0
    earliest = np.full(lists, np.iinfo(np.int64).max)
    np.minimum.at(earliest, code, times)
    rank = np.empty(lists, np.int64)
    rank[np.argsort(earliest, kind="stable")] = np.arange(lists)
    order = np.lexsort((column(impressions, "item"), column(impressions, "position"), rank[code]))
    lengths = np.bincount(rank[code], minlength=lists).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    split = np.full(lists, -1, np.int64)
    return Lists(impressions.take(pa.array(order)), delay[order], starts, lengths, np.sort(earliest), split)


def pick(lists: Lists, chosen: np.ndarray) -> Lists:
    """Only the lists of a mask [L]."""
    rows = np.flatnonzero(np.repeat(chosen, lists.lengths))
    lengths = lists.lengths[chosen]
    return Lists(
        lists.rows.take(pa.array(rows)),
        lists.delay[rows],
        np.cumsum(lengths) - lengths,
        lengths,
        lists.time[chosen],
        lists.split[chosen],
    )


def _split_of(times: np.ndarray, settings: Settings) -> np.ndarray:
    split = np.full(len(times), -1, np.int64)
    for index, (_, low, high) in enumerate(settings.splits()):
        inside = np.ones(len(times), bool)
        if low is not None:
            inside &= times >= low
        if high is not None:
            inside &= times < high
        split[inside] = index
    return split


def select(lists: Lists, plan: Plan, settings: Settings, log_end: int) -> tuple[Lists, Counts]:
    """Keeps search lists of the asked time range whose windows are over, and drops those without the primary engagement where told.

    A list is mature when its latest impression + the longest window of a censoring task <= the log's end (PAPERS R12, R16).
    """
    if not len(lists.lengths):
        return lists, {}
    window = max((task.window for task in plan.tasks.values() if task.censor), default=0)
    latest = np.maximum.reduceat(column(lists.rows, "time"), lists.starts)
    other_domain = ~column(lists.rows, "is_list")[lists.starts]
    split = _split_of(lists.time, settings)
    immature = latest + window > log_end
    primary = list(plan.tasks).index(plan.spec.primary_task)
    converted = np.maximum.reduceat(lists.delay[:, primary], lists.starts) >= 0
    names = [name for name, _, _ in settings.splits()]
    must_convert = {"none": (), "train": ("train", "validation"), "all": tuple(names)}[settings.drop_unconverted]
    drops = np.isin(split, [index for index, name in enumerate(names) if name in must_convert])
    reasons = {
        "other_domain": other_domain,
        "out_of_range": split < 0,
        "immature": immature,
        "unconverted": drops & ~converted,
    }
    left, counts = np.ones(len(split), bool), {"seen": len(split)}
    for reason, mask in reasons.items():
        counts[reason] = int((left & mask).sum())
        left &= ~mask
    counts["kept"] = int(left.sum())
    return pick(dataclasses.replace(lists, split=split), left), {"lists": counts}


def describe(lists: Lists, plan: Plan, settings: Settings) -> Counts:
    """What each split holds: lists, items, labels and lists with a label per task, times, lengths, and the position curve."""
    described: Counts = {}
    labels = lists.delay >= 0
    row_split = np.repeat(lists.split, lists.lengths)
    positions = column(lists.rows, "position")
    for index, (name, _, _) in enumerate(settings.splits()):
        chosen, rows = lists.split == index, row_split == index
        if not chosen.any():
            continue
        found: Counts = {
            "lists": int(chosen.sum()),
            "items": int(rows.sum()),
            "max_list_size": int(lists.lengths[chosen].max()),
            "first_time": int(lists.time[chosen].min()),
            "last_time": int(lists.time[chosen].max()),
            "list_lengths": tally(lists.lengths[chosen]),
            "positions": {"impressions": tally(positions[rows])},
            "labels": {},
            "lists_with": {},
        }
        for task_index, task in enumerate(plan.tasks):
            positive = labels[:, task_index] & rows
            found["labels"][task] = int(positive.sum())
            found["lists_with"][task] = len(np.unique(lists.list_of_row[positive]))
            found["positions"][task] = tally(positions[positive])
        described[name] = found
    return described
