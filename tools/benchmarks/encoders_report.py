"""The report of `tools.benchmarks.encoders`: read back, judged, and as tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.benchmarks.command import read_report
from tools.benchmarks.encoders_steps import PASSES, Timing
from tools.benchmarks.goals import Goal
from tools.benchmarks.summary import Spread
from tools.benchmarks.tables import goal_rows, spread, table

REFERENCE = "target_attention"
"""What encoders per item are held against."""
_SHORT, _LONG, _LIST, _LARGE = 200, 10_000, 50, 200
_ABSENT = "not run"

Key = tuple[str, str, int, int]


def medians_of(timings: Sequence[Timing]) -> dict[Key, float]:
    """Milliseconds by encoder, pass, items and events, of the cells that ran."""
    return {(t.encoder, t.kind, t.items, t.events): statistics.median(t.ms) for t in timings if t.ms}


def goals(timings: Sequence[Timing]) -> list[Goal]:
    """What is claimed: ETA's cost grows far less with the history than target attention's; LightSUAN's per item falls with the list."""
    ms = medians_of(timings)

    def ratio(above: Key, below: Key) -> float | None:
        return ms[above] / ms[below] if above in ms and below in ms else None

    found = []
    for kind in PASSES:
        growth = {name: ratio((name, kind, _LIST, _LONG), (name, kind, _LIST, _SHORT)) for name in ("eta", REFERENCE)}
        eta, whole = growth["eta"], growth[REFERENCE]
        share = eta / whole if eta and whole else None
        lists = f"lists of {_LIST}"
        found.append(Goal(f"{kind}, {lists}: growth of eta, {_SHORT} to {_LONG:,} events, of target attention's", "<=", 0.5, "x", share))
        cost = ratio(("eta", kind, _LIST, _LONG), (REFERENCE, kind, _LIST, _LONG))
        found.append(Goal(f"{kind}, {lists}: eta at {_LONG:,} events, of target attention", "<=", 0.5, "x", cost))
        lone = ratio(("lightsuan", kind, _LARGE, _SHORT), ("lightsuan", kind, 1, _SHORT))
        per_item = lone / _LARGE if lone else None
        found.append(Goal(f"{kind}, {_SHORT} events: lightsuan per item in lists of {_LARGE}, of lists of 1", "<=", 0.1, "x", per_item))
    return found


def timings_of(found: Mapping[str, Any]) -> list[Timing]:
    """The results of a report."""
    return [Timing(**entry) for entry in found["cells"]]


def result_rows(timings: Sequence[Timing], events: Sequence[int], ratios: bool = False) -> list[Sequence[str]]:
    """One row per encoder, pass and list length, one column per history length: milliseconds of a step, or of target attention's.

    Encoders that make one vector per list stand beside target attention on lists of the same items only where those were measured.
    """
    cells = {(t.encoder, t.kind, t.items, t.events): t for t in timings}
    ms = medians_of(timings)
    rows: list[Sequence[str]] = []
    for name, kind, items in dict.fromkeys((t.encoder, t.kind, t.items) for t in timings):
        keys = [(name, kind, items, length) for length in events]
        if ratios:
            others = [ms.get((REFERENCE, *key[1:])) for key in keys]
            shown = [f"{ms[key] / other:.3g}" if key in ms and other else "" for key, other in zip(keys, others, strict=True)]
        else:
            shown = [_shown(cells[key]) if key in cells else "" for key in keys]
        rows.append((name, kind, f"{items}", *shown))
    return rows


def _shown(timing: Timing) -> str:
    return spread(Spread.of(timing.ms), digits=2) if timing.ms else _ABSENT


def skipped_rows(timings: Sequence[Timing]) -> list[Sequence[str]]:
    """Cells that were left out, and why."""
    return [(t.encoder, t.kind, f"{t.items}", f"{t.events:,}", t.skipped) for t in timings if t.skipped]


def described(found: Mapping[str, Any]) -> str:
    """Where and how a report was measured."""
    on, made = found["machine"], found["settings"]
    return "\n".join((
        f"{found['created']}, {on['processor']}, {made['threads']} threads, {on['memory_gib']} GiB; "
        f"load average before {found['load']:.1f}.",
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".",
        f"{made['lists']} list(s) a step, vectors of {made['dim']}, encoders with default factors; ms a step, medians (least-greatest) "
        f"of {made['repeats']} turns of up to {made['steps']} steps; seed {made['seed']}.",
    ))  # fmt: skip


def shown(found: Mapping[str, Any], markdown: bool) -> str:
    """A report as text."""
    timings, events = timings_of(found), found["settings"]["events"]
    head = ("encoder", "pass", "items", *(f"{length:,}" for length in events))
    parts = [described(found), table(head, result_rows(timings, events), markdown)]
    if any(t.encoder == REFERENCE for t in timings):
        parts += [f"The same, divided by {REFERENCE}'s:", table(head, result_rows(timings, events, ratios=True), markdown)]
    if skipped_rows(timings):
        parts.append(table(("encoder", "pass", "items", "events", "why it was not run"), skipped_rows(timings), markdown))
    parts.append(table(("goal", "wanted", "reached", ""), goal_rows(goals(timings)), markdown))
    return "\n\n".join(parts)


def read(path: Path) -> dict[str, Any]:
    """Reads a report. Raises CvrError where the file is none."""
    return read_report(path, "encoders")
