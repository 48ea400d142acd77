"""Statistics of stored numerical features, split by split; training reads those of its own split only."""

from __future__ import annotations

import numpy as np

from cvr.manifest import Moments
from cvr.records import Layout, ListColumns
from cvr.transforms import UNSEEN_VALUE
from pipelines.counts import Counts


def moments(values: np.ndarray) -> Moments:
    """Moments of float values [R]; NaN is missing, -inf is unseen."""
    values = values.astype(np.float64)
    unseen = values == UNSEEN_VALUE
    present = values[np.isfinite(values)]
    logs = np.sign(present) * np.log1p(np.abs(present))
    return Moments(
        count=len(present),
        missing=int(len(values) - unseen.sum() - len(present)),
        unseen=int(unseen.sum()),
        total=float(present.sum()),
        total_squares=float((present**2).sum()),
        log_total=float(logs.sum()),
        log_total_squares=float((logs**2).sum()),
        minimum=float(present.min()) if len(present) else None,
        maximum=float(present.max()) if len(present) else None,
    )


def of_columns(layout: Layout, columns: ListColumns, chosen: np.ndarray) -> dict[str, Moments]:
    """Moments of every stored numerical over the chosen lists (mask [L]) and their items."""
    rows = np.repeat(chosen, columns.lengths)
    context = {name: moments(columns.context_num[chosen, i]) for i, name in enumerate(layout.context_num)}
    item = {name: moments(columns.item_num[rows, i]) for i, name in enumerate(layout.item_num)}
    return context | item


def as_counts(statistics: dict[str, Moments]) -> Counts:
    """Statistics as a part of the counts that Beam merges: one-element lists, which join."""
    return {name: [found.model_dump()] for name, found in statistics.items()}


def from_counts(counts: Counts) -> dict[str, Moments]:
    """The merged statistics of all partitions."""
    merged: dict[str, Moments] = {}
    for name, parts in counts.items():
        total = Moments()
        for part in sorted(parts, key=lambda p: (p["count"], p["total"])):
            total = total.merge(Moments.model_validate(part))
        merged[name] = total
    return merged
