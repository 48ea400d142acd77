"""What differs between two runs or evaluations."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvr.errors import CvrError
from cvr.runs import SPEC_FILE
from tools.comparison.evaluations import Evaluations, System
from tools.comparison.statistics import Comparison, Resampling, compare
from tools.tracking.gather import Record, row_of

ABSENT = "absent"
_PLACES = ("folder", "run", "run_found", "created")
"""Where and when, not what."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """`settings` (flags, model, versions, machine, lists, ..) and `results` (metrics, costs) that differ, each as (name, A, B).

    `spec`: lines of the unified diff of the feature specs; None where a folder has none. `paired`: by task, mAP of B against A on the same
    lists; `not_paired` says why there is none.
    """

    settings: list[tuple[str, Any, Any]]
    results: list[tuple[str, Any, Any]]
    spec: list[str] | None
    paired: dict[str, Comparison]
    not_paired: str


def difference(a: tuple[Record, Record | None], b: tuple[Record, Record | None], replicates: int = 10_000) -> Difference:
    """Of A and B, each a record and, for an evaluation, its run where that was found."""
    rows = row_of(*a), row_of(*b)
    changed = [one for one in changes(*rows) if one[0] not in _PLACES]
    results = [one for one in changed if _is_result(one[0])]
    runs = [record if record.kind == "run" else run for record, run in (a, b)]
    paired, reason = _paired(a[0], b[0], replicates)
    settings = [one for one in changed if one not in results]
    return Difference(settings, results, _spec_changes(runs[0], runs[1]), paired, reason)


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value in A, value in B) where they differ, in A's order; ABSENT where one lacks the name."""
    names = [*a, *(name for name in b if name not in a)]
    return [(name, a.get(name, ABSENT), b.get(name, ABSENT)) for name in names if a.get(name, ABSENT) != b.get(name, ABSENT)]


def _is_result(name: str) -> bool:
    return name.startswith(("metric.", "cost.", "validation.")) or name in ("checkpoint", "evaluated.checkpoint", "status")


def _spec_changes(a: Record | None, b: Record | None) -> list[str] | None:
    if a is None or b is None:
        return None
    paths = [record.folder / SPEC_FILE for record in (a, b)]
    if not all(path.is_file() for path in paths):
        return None
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in paths)
    return list(difflib.unified_diff(before, after, str(paths[0]), str(paths[1]), lineterm="", n=1))


def _paired(a: Record, b: Record, replicates: int) -> tuple[dict[str, Comparison], str]:
    """mAP of each task that both have, list by list."""
    if not all((record.folder / "per_list.parquet").is_file() for record in (a, b)):
        return {}, "give two evaluation folders for a paired difference"
    try:
        evaluations = Evaluations([System("a", (Path(a.folder),)), System("b", (Path(b.folder),))], same_data=False)
        found = {}
        for task in evaluations.tasks:
            values = evaluations.values(task, "map").systems
            found[task] = compare(values["a"], values["b"], Resampling(replicates))
    except CvrError as error:
        return {}, str(error)
    return found, "" if found else "no task in common"


def text(found: Difference) -> str:
    """For reading; the ends of metrics' own intervals are left out, which say nothing of a difference."""
    results = [one for one in found.results if not one[0].endswith(("_low", "_high"))]
    parts = ["settings that differ:", *_lines(found.settings), "results that differ:", *_lines(results)]
    if found.spec is None:
        parts.append("feature specs: not both known")
    else:
        parts += ["feature specs:", *(f"  {line}" for line in found.spec)] if found.spec else ["feature specs: the same"]
    for task, one in found.paired.items():
        low, high = one.interval
        parts.append(f"{task}, map, B less A: {one.difference:+.5f} [{low:+.5f}, {high:+.5f}] on {one.lists:,} lists, p {one.p:.4f}")
    if found.paired:
        parts.append("one seed each: about these two trained models, not about others trained alike (tools.compare takes several)")
    return "\n".join([*parts, *([f"not paired: {found.not_paired}"] if found.not_paired else [])])


def _lines(changed: list[tuple[str, Any, Any]]) -> list[str]:
    width = max((len(name) for name, _, _ in changed), default=0)
    return [f"  {name.ljust(width)}  {_shown(a)} -> {_shown(b)}" for name, a, b in changed] or ["  none"]


def _shown(value: Any) -> str:
    if value == ABSENT:
        return ABSENT
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
