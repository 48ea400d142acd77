"""A benchmark's results as tables, for a terminal or in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tools.benchmarks.goals import Goal, size
from tools.benchmarks.summary import Result, Spread
from tools.benchmarks.variants import VARIANTS

_VERDICT = {True: "met", False: "MISSED", None: "not measured"}
RESULT_HEAD = (
    "variant", "events", "events/s", "whole process", "CPU s", "CPU ns/event", "peak MiB", "shuffle B/event", "side B/event", "B/list",
)  # fmt: skip


def spread(spread: Spread, scale: float = 1.0, digits: int = 0) -> str:
    """Median (least-greatest)."""
    values = [f"{value / scale:,.{digits}f}" for value in (spread.median, spread.least, spread.most)]
    return values[0] if len(set(values)) == 1 else f"{values[0]} ({values[1]}-{values[2]})"


def result_rows(results: Iterable[Result]) -> list[Sequence[str]]:
    """One row per variant and size; rates in thousands of events a second, `?` where the log was too small for a figure."""
    return [
        (
            result.variant,
            size(result.asked),
            spread(result.rate, 1e3) + "k" + "?" * result.unclear,
            spread(result.whole_rate, 1e3) + "k",
            spread(result.cpu, digits=1),
            spread(result.cpu_per_event) + "?" * result.unclear,
            spread(result.peak, 2**20),
            f"{result.shuffle:.1f}",
            f"{result.side:.1f}",
            f"{result.output:,.0f}",
        )
        for result in sorted(results, key=lambda r: (list(VARIANTS).index(r.variant), r.asked))
    ]


def goal_rows(goals: Iterable[Goal]) -> list[Sequence[str]]:
    """One row per goal: what was wanted, what was reached, the verdict."""
    return [
        (
            goal.name,
            f"{goal.relation} {goal.wanted:,g} {goal.unit}",
            "" if goal.reached is None else f"{goal.reached:,.{0 if goal.reached >= 1000 else 2}f} {goal.unit}",
            _VERDICT[goal.met],
        )
        for goal in goals
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Aligned columns, the first one left, the others right; with bars for Markdown."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    align = [str.ljust] + [str.rjust] * (len(head) - 1)
    cells = [[align[i](row[i], widths[i]) for i in range(len(head))] for row in [head, *rows]]
    if not markdown:
        return "\n".join("  ".join(row).rstrip() for row in cells)
    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])
