"""The JSON report of the pipeline benchmark: made from measurements, read back, described in words."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvr.errors import CvrError
from tools.benchmarks.goals import Goal, goals
from tools.benchmarks.machine import machine, versions
from tools.benchmarks.runner import HOT, Runner
from tools.benchmarks.summary import Result, Spread, result_of, startup_of

FORMAT = 1


def report(runner: Runner, names: Sequence[str], repeats: Mapping[int, int]) -> dict[str, Any]:
    """Measures, and gives everything that was found: machine, versions, settings, every run with its command, results, goals."""
    measured = runner.measure(names, repeats)
    startups = {name: startup_of(runs) for name, runs in measured.startups.items()}
    results = [
        result_of(cell, runner.counts(cell), runs, measured.output[cell], startups) for cell, runs in measured.runs.items()
    ]
    return {
        "format": FORMAT,
        "benchmark": "pipeline",
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(runner.cpus),
        "versions": versions(),
        "settings": {"variants": list(names), "repeats": {str(k): v for k, v in repeats.items()}, "seed": runner.seed, "hot": HOT},
        "startups": {name: dataclasses.asdict(startup) for name, startup in startups.items()},
        "runs": [
            {"variant": cell.variant, "events": cell.events, **dataclasses.asdict(run)}
            for cell, runs in measured.runs.items()
            for run in runs
        ],
        "results": [dataclasses.asdict(result) for result in results],
        "labels": measured.labels,
        "goals": [dataclasses.asdict(goal) | {"met": goal.met} for goal in goals(results)],
    }


def read(path: Path) -> dict[str, Any]:
    """Reads a report. Raises CvrError where the file is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CvrError(f"--read={path}: {error}; expected what --json=FILE wrote") from error
    if not isinstance(found, dict) or found.get("benchmark") != "pipeline" or found.get("format") != FORMAT:
        raise CvrError(f"--read={path}: this is no report of tools.benchmarks.pipeline in format {FORMAT}; measure anew with --json={path}")
    return found


def results_of(found: Mapping[str, Any]) -> list[Result]:
    """The results of a report."""

    def restored(entry: dict[str, Any]) -> dict[str, Any]:
        return {key: Spread(**value) if isinstance(value, dict) else value for key, value in entry.items()}

    return [Result(**restored(entry)) for entry in found["results"]]


def goals_of(found: Mapping[str, Any]) -> list[Goal]:
    """The goals, judged anew from a report's results."""
    return goals(results_of(found))


def described(found: Mapping[str, Any]) -> str:
    """Where and how a report was measured, in a few lines."""
    on, made = found["machine"], found["settings"]
    libraries = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    repeats = ", ".join(f"{int(events) / 1e6:g}M x {times}" for events, times in made["repeats"].items())
    loads = [run["load"] for run in found["runs"]]
    startups = ", ".join(f"{name} {s['wall']:.1f} s / {s['cpu']:.1f} CPU s" for name, s in found["startups"].items())
    labels = "; ".join(f"{log}: {', '.join(designs)}" for log, designs in found["labels"].items())
    lines = (
        f"{found['created']}, {on['processor']}, {on['cpus_used']} of {on['cpus']} CPUs, {on['memory_gib']} GiB; "
        f"load average before the runs {min(loads):.1f}-{max(loads):.1f}.",
        f"{libraries}.",
        f"Repeats: {repeats}; seed {made['seed']}. Median (least-greatest).",
        f"Start-up, taken off `events/s` and `CPU ns/event`: {startups}.",
        f"Equal labels on the logs of so many events: {labels}.",
    )
    return "\n".join(lines)
