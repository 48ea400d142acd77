"""The report of `tools.benchmarks.embedding`: read back, judged, and as tables."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.benchmarks.command import read_report
from tools.benchmarks.embedding_steps import DRAWS, OPTIMIZERS, OURS, Timing
from tools.benchmarks.goals import Goal
from tools.benchmarks.summary import Spread
from tools.benchmarks.tables import goal_rows, table

HEAD = ("optimizer", "ids", "rows", "ms a step", "of lookup", "of Keras Adam", "page faults a step")
_SMALL, _LARGE = 100_000, 10_000_000


def goals(timings: Sequence[Timing]) -> list[Goal]:
    """What is wanted of our optimizers with each draw; ratios of medians."""
    medians = {(t.optimizer, t.draw, t.rows): t.step_ms.median for t in timings}

    def ratio(above: tuple[str, str, int], below: tuple[str, str, int]) -> float | None:
        return medians[above] / medians[below] if above in medians and below in medians else None

    found = []
    for name, draw in itertools.product(OURS, DRAWS):
        large = (name, draw, _LARGE)
        growth = ratio(large, (name, draw, _SMALL))
        found.append(Goal(f"{name}, {draw} ids: a step at 1e7 rows against 1e5", "<=", 1.2, "x", growth))
        faster = ratio(("keras_adam", draw, _LARGE), large)
        found.append(Goal(f"{name}, {draw} ids: faster than Keras Adam at 1e7 rows", ">=", 20, "x", faster))
    return found


def timings_of(found: Mapping[str, Any]) -> list[Timing]:
    """The results of a report."""
    return [Timing(**{**entry, "step_ms": Spread(**entry["step_ms"])}) for entry in found["results"]]


def result_rows(timings: Sequence[Timing]) -> list[Sequence[str]]:
    """One row per cell; ratios of medians of the same size and draw, empty where the other was not measured."""
    medians = {(t.optimizer, t.draw, t.rows): t.step_ms.median for t in timings}

    def share(timing: Timing, other: str) -> str:
        base = medians.get((other, timing.draw, timing.rows))
        return f"{timing.step_ms.median / base:.3g}" if base else ""

    ordered = sorted(timings, key=lambda t: (DRAWS.index(t.draw), OPTIMIZERS.index(t.optimizer), t.rows))
    return [
        (
            t.optimizer,
            t.draw,
            f"{t.rows:.0e}".replace("e+0", "e"),
            f"{t.step_ms.median:,.2f} ({t.step_ms.least:,.2f}-{t.step_ms.most:,.2f})",
            share(t, "lookup"),
            share(t, "keras_adam"),
            f"{t.faults:,.0f}",
        )
        for t in ordered
    ]


def described(found: Mapping[str, Any]) -> str:
    """Where and how a report was measured."""
    on, made, huge = found["machine"], found["settings"], found["huge_pages"]
    lines = [
        f"{found['created']}, {on['processor']}, {made['threads']} threads, {on['memory_gib']} GiB; "
        f"load average before {found['load']:.1f}.",
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".",
        f"{made['ids']} ids of dim {made['dim']} a step; medians of {made['repeats']} turns (least-greatest) of {made['steps']} steps, "
        f"after {made['warm']} that are not timed.",
    ]
    if huge:
        lines.append(f"Huge pages: system {huge['system']}, {huge['gib']} GiB of the process.")
    return "\n".join(lines)


def shown(found: Mapping[str, Any], markdown: bool) -> str:
    """A report as text."""
    timings = timings_of(found)
    head = ("goal", "wanted", "reached", "")
    tables = (table(HEAD, result_rows(timings), markdown), table(head, goal_rows(goals(timings)), markdown))
    return "\n\n".join((described(found), *tables))


def read(path: Path) -> dict[str, Any]:
    """Reads a report. Raises CvrError where the file is none."""
    return read_report(path, "embedding")
