"""The manifest of a new version: the old one, with new files and the asked features' statistics and coverage."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from cvr.errors import CvrError
from cvr.manifest import Coverage, Manifest, RecordFile, Split
from pipelines import statistics
from pipelines.backfilling.files import tail
from pipelines.backfilling.request import Plan
from pipelines.backfilling.work import Workspace

Result = dict[str, Any]
"""What `pipelines.backfilling.files.Rewrite` gives for a file."""


def _split(old: Split, results: Sequence[Result], features: Sequence[str]) -> Split:
    """A split of the new version. The asked features' statistics and coverage are made anew from the files that were read."""
    measured: dict[str, list[dict[str, Any]]] = {}
    coverage = {day: dict(found) for day, found in old.coverage.items()}
    counted: dict[str, dict[str, list[dict[str, int]]]] = {}
    for result in results:
        for name, found in result.get("statistics", {}).items():
            measured.setdefault(name, []).append(found)
        for name, found in result.get("coverage", {}).items():
            counted.setdefault(result["file"]["day"], {}).setdefault(name, []).append(found)
    for day, names in counted.items():
        fresh = {name: Coverage.model_validate(_sum(parts)) for name, parts in names.items()}
        coverage[day] = {**coverage.get(day, {}), **fresh}
    return old.model_copy(
        update={
            "files": [RecordFile.model_validate(result["file"]) for result in results],
            "statistics": {**old.statistics, **statistics.from_counts(measured)},
            "coverage": coverage,
        }
    )


def _change_of_coverage(features: Sequence[str], results: Sequence[Result]) -> dict[str, dict[str, dict[str, int]]]:
    """{feature: {"before", "after": coverage of the range}}."""
    inside = [result for result in results if "before" in result]
    return {
        name: {side: _sum([result[key][name] for result in inside]) for side, key in (("before", "before"), ("after", "coverage"))}
        for name in features
    }


def _sum(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {key: sum(part.get(key, 0) for part in parts) for key in Coverage.model_fields}


def describe(asked: Plan, results: Sequence[Result]) -> Manifest:
    """The new version's manifest: the old one with these files, the asked features' statistics, and what was changed."""
    request, old = asked.request, asked.manifest
    by_split: dict[str, list[Result]] = {}
    order = {tail(piece.file.path): number for number, piece in enumerate(asked.pieces)}
    for result in sorted(results, key=lambda result: order[tail(result["file"]["path"])]):
        by_split.setdefault(result["split"], []).append(result)
    splits = {name: _split(split, by_split.get(name, []), request.features) for name, split in old.splits.items()}
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    change: dict[str, Any] = {
        "kind": "backfill",
        "created": now,
        "features": list(request.features),
        "start": request.start,
        "end": request.end,
        "source": asked.source,
        "input": asked.input,
        "lists": sum(piece.file.lists for piece in asked.chosen("merge")),
        "matched": sum(result.get("matched", 0) for result in results),
        "unmatched": sum(result.get("unmatched", 0) for result in results),
        "coverage": _change_of_coverage(request.features, results),
        "from": old.data_fingerprint(),
    }
    if request.table:
        change["table"] = {"path": request.table.path, "keys": list(request.table.keys), "lag": request.table.lag}
    return old.model_copy(
        update={
            "created": now,
            "spec_fingerprint": asked.spec.fingerprint,
            "spec_text": asked.spec_text,
            "changes": [*old.changes, change],
            "splits": splits,
        }
    )


def check(asked: Plan, manifest: Manifest, place: Workspace) -> None:
    """Raises CvrError where too many lists have no twin in the log, or a feature has no value in the whole range."""
    request, change = asked.request, manifest.changes[-1]
    if change["unmatched"] > change["lists"] * request.max_unmatched_fraction:
        share = f"{change['unmatched']} of {change['lists']} lists are not in the log {asked.input} as they were"
        limit = f"allowed --max_unmatched_fraction={request.max_unmatched_fraction:g}"
        where = place.data("unmatched")
        raise CvrError(
            f"{share} ({limit}); {where} names them. Give the log that the lists were built from, or allow more: they "
            "keep their old values, and the same command goes on from here"
        )
    for name in request.features:
        found = change["coverage"][name]["after"]
        if not any(count for key, count in found.items() if key != "unseen"):
            why = f"--table={request.table.path} has no row for them" if request.table else "the log's files of these days lack its column"
            raise CvrError(f"--features: {name} would stay unseen in all lists from {request.start} to {request.end}: {why}")
