"""Rows of comparisons: corrected for their number, judged, as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tools.comparison.statistics import LEVEL, Comparison, benjamini_hochberg, holm

CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"holm": holm, "bh": benjamini_hochberg, "none": np.asarray}


@dataclasses.dataclass(frozen=True)
class Row:
    """A system against the reference, of a task and metric, on all lists (`slicing` empty) or a slice of them.

    `p` and `p_equivalent` are corrected for the other rows of the table, None until they are.
    """

    task: str
    metric: str
    slicing: str
    slice: str
    reference: str
    system: str
    found: Comparison
    p: float | None = None
    p_equivalent: float | None = None

    @property
    def verdict(self) -> str:
        """higher or lower (than the reference), equivalent (within the margin), both in one, or undecided."""
        words = []
        if self.p is not None and self.p < LEVEL:
            words.append("higher" if self.found.difference > 0 else "lower")
        if self.p_equivalent is not None and self.p_equivalent < LEVEL:
            words.append("equivalent")
        return ", ".join(words) or "undecided"

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values; `p_corrected` beside the `p` of the comparison alone."""
        own = {name: getattr(self, name) for name in ("task", "metric", "slicing", "slice", "reference", "system")}
        corrected = {"p_corrected": self.p, "p_equivalent_corrected": self.p_equivalent, "verdict": self.verdict}
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self.found).items()}
        return {**own, "mean_reference": found.pop("reference"), "mean": found.pop("system"), **found, **corrected}


def correct(rows: Sequence[Row], correction: str) -> list[Row]:
    """The rows of one table with corrected p-values."""
    if not rows:
        return []
    adjust = CORRECTIONS[correction]
    p = adjust(np.array([row.found.p for row in rows]))
    margins = [row.found.p_equivalent for row in rows]
    equivalent = adjust(np.array(margins, np.float64)) if margins[0] is not None else [None] * len(rows)
    return [
        dataclasses.replace(row, p=float(one), p_equivalent=None if other is None else float(other))
        for row, one, other in zip(rows, p, equivalent, strict=True)
    ]


HEAD = ("", "lists", "seeds", "mean", "difference", "95 % interval", "relative", "95 % interval", "se lists", "se seeds", "mde", "p", "")


def text(rows: Sequence[Row]) -> str:
    """The rows as a table: a block per task and metric."""
    blocks = []
    for task, metric in dict.fromkeys((row.task, row.metric) for row in rows):
        own = [row for row in rows if (row.task, row.metric) == (task, metric)]
        head = f"{task}, {metric}: reference {own[0].reference}"
        if not own[0].slicing:
            head += f", {own[0].found.reference:.4f} on {own[0].found.lists:,} lists, {_count(own[0].found.seeds[0], 'seed')}"
        blocks.append("\n".join([head, *_aligned([_heading(own), *(_cells(row) for row in own)])]))
    return "\n\n".join(blocks)


def _heading(rows: Sequence[Row]) -> tuple[str, ...]:
    return (*HEAD[:-1], "p equal", "") if rows[0].p_equivalent is not None else HEAD


def _cells(row: Row) -> tuple[str, ...]:
    found = row.found
    name = f"{row.slicing} {row.slice}: {row.system}" if row.slicing else row.system
    cells = (
        name,
        f"{found.lists:,}",
        str(found.seeds[1]),
        f"{found.system:.4f}",
        f"{found.difference:+.4f}",
        f"[{found.interval[0]:+.4f}, {found.interval[1]:+.4f}]",
        f"{found.relative:+.2%}",
        f"[{found.relative_interval[0]:+.2%}, {found.relative_interval[1]:+.2%}]",
        f"{found.se_lists:.4f}",
        f"{found.se_seeds:.4f}" if max(found.seeds) > 1 else "-",
        f"{found.mde:.4f}",
        _probability(row.p),
    )
    return (*cells, _probability(row.p_equivalent), row.verdict) if row.p_equivalent is not None else (*cells, row.verdict)


def _probability(p: float | None) -> str:
    assert p is not None  # only corrected rows are printed
    return f"{p:.4f}" if p >= 0.001 else "<.001"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    last = len(widths) - 1
    lines = []
    for row in rows:
        cells = [row[place].ljust(width) if place in (0, last) else row[place].rjust(width) for place, width in enumerate(widths)]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
