"""The report of `tools.benchmarks.serving`: read back, judged, and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvr.errors import CvrError
from tools.benchmarks.goals import Goal
from tools.benchmarks.serving_cells import Cell
from tools.benchmarks.summary import Spread
from tools.benchmarks.tables import goal_rows, spread, table

CLIENT, OVERHEAD, CONTEXT, SPLIT, BATCHES = "client-side batching", "server overhead", "context", "signatures", "backbone"
ONE, MANY = "1 candidate a request", "200 candidates a request"
OFF = "off"
GPU_NOTE = "No GPU here: a backbone's time on one comes from `tools.benchmarks.gpu_step --programs=backbone` and its runner."


def goals(cells: Sequence[Cell], peaks: Mapping[str, float]) -> list[Goal]:
    """What is wanted of serving; ratios of medians, and of the peaks with and without dynamic batching."""
    medians = {(cell.group, cell.name): cell.value.median for cell in cells if cell.unit == "items/s"}

    def ratio(group: str, above: str, below: str) -> float | None:
        over, under = medians.get((group, above)), medians.get((group, below))
        return over / under if over and under else None

    batched = max((value for name, value in peaks.items() if name != OFF), default=None)
    gain = batched / peaks[OFF] if batched and peaks.get(OFF) else None
    return [
        Goal("client-side batching: items/s at 200 candidates a request against 1", ">=", 20, "x", ratio(CLIENT, MANY, ONE)),
        Goal("dynamic batching on against off, small requests, same P99 limit", ">=", 2, "x", gain),
        Goal("server at 200 candidates: of the rate in process", ">=", 0.85, "x", ratio(OVERHEAD, "server", "in process")),
        Goal("context computed once against per item, 192 items", ">=", 1, "x", ratio(CONTEXT, "once", "per item")),
        Goal("split signatures: of one call's rate, 200 candidates", ">=", 0.9, "x", ratio(SPLIT, "preprocess + score", "serving_default")),
    ]


def cells_of(found: Mapping[str, Any]) -> list[Cell]:
    """The cells of a report."""
    return [Cell(**{**entry, "value": Spread(**entry["value"])}) for entry in found["cells"]]


def peaks_of(found: Mapping[str, Any]) -> dict[str, float]:
    """Peak items/s by dynamic batching: off, or the timeout."""
    return {entry["name"]: entry["peak"]["items_per_second"] for entry in found["dynamic"]}


def described(found: Mapping[str, Any]) -> str:
    """Where and how a report was measured."""
    on, made = found["machine"], found["settings"]
    return "\n".join(
        (
            f"{found['created']}, {on['processor']}, {on['cpus']} CPUs, {on['memory_gib']} GiB; load average before {found['load']:.1f}.",
            ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".",
            f"{made['backbone']} {made['factors']} on reference content, untrained; {made['threads']} threads in TensorFlow's pools, "
            f"{made['callers']} callers; clients share the CPUs with the server. Medians of {made['rounds']} rounds (least-greatest).",
            GPU_NOTE,
        )
    )


def shown(found: Mapping[str, Any], markdown: bool) -> str:
    """A report as text."""
    cells, peaks = cells_of(found), peaks_of(found)
    rows = [(cell.group, cell.name, cell.unit, spread(cell.value, digits=2 if cell.value.median < 100 else 0)) for cell in cells]
    parts = [described(found), table(("group", "cell", "unit", "median"), rows, markdown)]
    if found["dynamic"]:
        limit = found["settings"]["limit_ms"]
        dynamic = [(name, f"{value:,.0f}", f"{value / peaks[OFF]:.2f}" if peaks.get(OFF) else "") for name, value in peaks.items()]
        parts.append(table(("dynamic batching", f"peak items/s at P99 <= {limit:g} ms", "of off"), dynamic, markdown))
    parts.append(table(("goal", "wanted", "reached", ""), goal_rows(goals(cells, peaks)), markdown))
    return "\n\n".join(parts)


def read(path: Path) -> dict[str, Any]:
    """Reads a report. Raises CvrError where the file is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CvrError(f"--read={path}: {error}; expected what --json=FILE wrote") from error
    if not isinstance(found, dict) or (found.get("benchmark"), found.get("format")) != ("serving", 1):
        raise CvrError(f"--read={path}: this is no report of tools.benchmarks.serving in format 1")
    return found
