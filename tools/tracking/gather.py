"""Runs and evaluations found in folders, as flat rows that can be put side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cvr.errors import CvrError
from cvr.runs import RUN_FILE

SUMMARY = "summary.json"
_PLAIN = ("status", "created", "commit", "data", "dataset", "spec_fingerprint", "checkpoint", "last_training_time")
_COSTS = {
    "lists", "items", "steps", "seconds_train", "items_per_second_train", "parameters", "dense_parameters", "embedding_bytes",
    "flops_per_item", "flops_per_list",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Record:
    """A run's or an evaluation's folder with what its JSON file says."""

    kind: str
    folder: Path
    info: dict[str, Any]


def find(folders: Sequence[str | Path]) -> list[Record]:
    """All runs (run.json) and evaluations (summary.json with tasks and a split) in and below the folders, by path.

    Raises CvrError for a folder that is not there, a file that is no JSON, and where nothing is found.
    """
    found: dict[Path, Record] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise CvrError(f"--runs={folder} is no folder; give folders that hold runs or evaluations, at any depth")
        for record in _records(folder):
            found[record.folder.resolve()] = record
    if not found:
        raise CvrError(f"no run ({RUN_FILE}) and no evaluation ({SUMMARY}) in {', '.join(map(str, folders))}")
    return [found[path] for path in sorted(found)]


def record_of(folder: Path) -> Record:
    """The run or evaluation of exactly this folder. Raises CvrError where there is none."""
    found = [record for record in (_record(folder / name) for name in (RUN_FILE, SUMMARY)) if record is not None]
    if not found:
        raise CvrError(f"{folder}: no run ({RUN_FILE}) and no evaluation ({SUMMARY}) in this folder")
    return found[0]


def _records(folder: Path) -> Iterator[Record]:
    for name in (RUN_FILE, SUMMARY):
        for path in folder.rglob(name):
            record = _record(path)
            if record is not None:
                yield record


def _record(path: Path) -> Record | None:
    if not path.is_file():
        return None
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CvrError(f"{path}: not JSON ({error}); remove it, or give other folders") from error
    if path.name == RUN_FILE:
        return Record("run", path.parent, info)
    return Record("evaluation", path.parent, info) if isinstance(info, dict) and {"tasks", "split"} <= set(info) else None


def run_of(evaluation: Record, records: Sequence[Record]) -> Record | None:
    """The run that was evaluated: the evaluation's `run` as a path from here or from a folder above it; both may have moved together.

    A run that now has another checkpoint is not it.
    """
    named, known = Path(evaluation.info.get("run", "")), {r.folder.resolve(): r for r in records if r.kind == "run"}
    if not named.parts:
        return None
    above = list(evaluation.folder.resolve().parents)
    tails = [Path(*named.parts[place:]) for place in range(len(named.parts))]
    for path in [named.resolve(), *(folder / tail for tail in tails for folder in above)]:
        run = known.get(path)
        if run is not None and run.info.get("checkpoint") == evaluation.info.get("checkpoint"):
            return run
    return None


def row_of(record: Record, run: Record | None = None) -> dict[str, Any]:
    """A record as one flat row. An evaluation has its run's flags, versions and costs beside its own split, lists and metrics."""
    source = record if record.kind == "run" else run
    found: dict[str, Any] = {"kind": record.kind, "folder": str(record.folder)}
    if source is not None:
        found |= _of_run(source)
    if record.kind == "evaluation":
        about = {key: record.info.get(key) for key in ("split", "data", "lists", "items", "checkpoint")}
        found |= {f"evaluated.{key}": value for key, value in about.items()}
        found["run"] = str(run.folder) if run is not None else record.info.get("run")
        found["run_found"] = run is not None
        found |= _metrics(record.info["tasks"])
    return found


def _of_run(run: Record) -> dict[str, Any]:
    info = run.info
    found: dict[str, Any] = {key: info.get(key) for key in _PLAIN}
    found["seed"] = info.get("flags", {}).get("seed")
    for part in ("flags", "versions", "machine", "model", "warm_start", "teacher"):
        found |= _flat({part: info.get(part) or {}})
    found |= {f"cost.{key}": info[key] for key in sorted(_COSTS & set(info))}
    return found | _flat({"validation": info.get("validation") or {}})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings with their keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _metrics(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`metric.<task>.<name>`, an interval's ends as _low and _high, baselines as `metric.<task>.baselines.<name>..`."""
    found: dict[str, Any] = {}
    for name, value in _flat({"metric": tasks}).items():
        if name.endswith("_ci") and isinstance(value, list) and len(value) == 2:
            found[name.removesuffix("_ci") + "_low"], found[name.removesuffix("_ci") + "_high"] = value
        else:
            found[name] = value
    return found


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row per record."""
    return [row_of(record, run_of(record, records) if record.kind == "evaluation" else None) for record in records]


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows with a column for each key of any; numbers and truth values as such, what is mixed as JSON text."""
    frame = pd.DataFrame([dict(row) for row in rows]).astype(object)
    for name in frame:
        frame[name] = _typed(list(frame[name]))
    return frame


def _typed(values: Sequence[Any]) -> pd.Series:
    values = [None if isinstance(value, float) and value != value else value for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return pd.Series(values, dtype="boolean")
    if kinds <= {int} and kinds:
        return pd.Series(values, dtype="Int64")
    if kinds <= {int, float} and kinds:
        return pd.Series(values, dtype="Float64")
    text = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pd.Series(text, dtype="string")
