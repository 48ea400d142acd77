"""Facts about lists and labels of a file: sizes, label patterns, engagement by position, and how well simple orders rank."""

from __future__ import annotations

import numpy as np

from cvr.records import Layout, ListColumns
from pipelines.counts import tally
from pipelines.lists import UNSHOWN
from pipelines.validation.merging import Partial, Range
from pipelines.validation.within import Groups, measure


def facts(layout: Layout, columns: ListColumns) -> Partial:
    """Counts of a file's lists by what the manifest and the page tell of them."""
    if not len(columns.lengths):
        return {}
    rows = np.repeat(np.arange(len(columns.lengths)), columns.lengths)
    positive = np.stack(
        [np.bincount(rows[labels > 0], minlength=len(columns.lengths)) for labels in columns.labels.T], axis=1
    )
    patterns = columns.labels @ (1 << np.arange(len(layout.tasks)))
    return {
        "lists": len(columns.lengths),
        "items": len(columns.item),
        "times": Range(int(columns.time.min()), int(columns.time.max())),
        "list_lengths": tally(columns.lengths),
        "single": int((columns.lengths == 1).sum()),
        "unlabelled": int((positive.sum(axis=1) == 0).sum()),
        "labels": _named(layout, columns.labels.sum(axis=0)),
        "lists_with": _named(layout, (positive > 0).sum(axis=0)),
        "all_positive": _named(layout, (positive == columns.lengths[:, None]).sum(axis=0)),
        "patterns": tally(patterns),
        "positions": {
            "impressions": tally(columns.position),
            **{task: tally(columns.position[columns.labels[:, place] > 0]) for place, task in enumerate(layout.tasks)},
        },
        "orders": _orders(layout, columns),
    }


def _named(layout: Layout, values: np.ndarray) -> dict[str, int]:
    return {task: int(value) for task, value in zip(layout.tasks, values, strict=True)}


def _orders(layout: Layout, columns: ListColumns) -> dict[str, dict[str, np.ndarray]]:
    """`within.FIELDS` of the display order and, where the lists have it, of popularity so far, by task."""
    place = np.where(columns.position == 0, UNSHOWN, columns.position)
    orders = {"display_order": (place, "lowest"), "popularity": (columns.popularity, "highest")}
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, (values, best) in orders.items():
        if not np.isnan(values.astype(np.float64)).any():
            groups = Groups.of(values, columns.lengths)
            found[name] = {task: measure(groups, columns.labels[:, i])[best] for i, task in enumerate(layout.tasks)}
    return found
