"""A run and its ranker as a published SavedModel version, with what serving needs beside it in assets.extra/."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvr.calibration import Calibration, load_calibration
from cvr.errors import CvrError
from cvr.runs import RUN_FILE, SPEC_FILE, Run, versions
from export.batching import Batching
from export.example import example_search
from export.inputs import request_inputs
from export.probabilities import PREFIX
from export.servable import hush_dotted_names
from export.signatures import ServedRanker, ServingModule
from export.versions import publish

EXTRA = "assets.extra"
MODEL_FILE, EXAMPLE_FILE = "model.json", "example_request.json"


def run_folder(path: str | Path) -> Path:
    """The folder with `run.json`: the path itself or its `model/`. Raises CvrError where neither has one."""
    for folder in (Path(path), Path(path) / "model"):
        if (folder / RUN_FILE).is_file():
            return folder
    raise CvrError(f"no {RUN_FILE} in {path} or {path}/model; train a model first: python -m cvr.train --output={path}/model ...")


def save_version(run: Run, ranker: ServedRanker, base: Path, version: int, batching: Batching) -> Path:
    """Writes and publishes one version; gives its folder. A run with a calibration gets probabilities.

    Raises CvrError as `export.versions.publish` and `cvr.calibration.load_calibration` do.
    """
    calibration = load_calibration(run.folder, run.info["checkpoint"])
    module = ServingModule(run.spec, ranker, batching, calibration)
    hush_dotted_names()

    def write(folder: Path) -> None:
        signatures = module.signatures()
        tf.saved_model.save(module, str(folder), signatures=signatures)
        extra = folder / EXTRA
        extra.mkdir()
        (extra / SPEC_FILE).write_bytes((run.folder / SPEC_FILE).read_bytes())
        about = json.dumps(_describe(run, ranker, version, batching, signatures) | _calibrated(calibration), indent=1)
        (extra / MODEL_FILE).write_text(about + "\n", encoding="utf-8")
        (extra / EXAMPLE_FILE).write_text(example_search(run.spec).to_json(), encoding="utf-8")

    return publish(base, version, write)


def _describe(run: Run, ranker: ServedRanker, version: int, batching: Batching, signatures: dict[str, Any]) -> dict[str, Any]:
    meanings = {entry.name: entry.meaning for entry in request_inputs(run.spec)}
    return {
        "version": version,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "dataset": run.spec.dataset,
        "run": str(run.folder),
        "checkpoint": run.info["checkpoint"],
        "spec_fingerprint": run.spec.fingerprint,
        "data_fingerprint": run.info.get("data"),
        "tasks": list(run.spec.task_names),
        "primary_task": run.spec.primary_task,
        "parameters": int(sum(variable.shape.num_elements() for variable in ranker.variables)),
        "batching": dataclasses.asdict(batching),
        "signatures": {
            name: {
                "inputs": {key: _tensor(spec, meanings) for key, spec in _inputs(function).items()},
                "outputs": {key: _tensor(value, {}) for key, value in function.structured_outputs.items()},
            }
            for name, function in signatures.items()
        },
        "versions": versions(),
    }


def _calibrated(calibration: Calibration | None) -> dict[str, Any]:
    """What model.json says of the probabilities: null where the run has none."""
    if calibration is None:
        return {"calibration": None}
    outputs = [f"{PREFIX}{task}" for task in calibration.tasks]
    return {"calibration": {"meaning": calibration.meaning, "outputs": outputs, "fitted": calibration.model_dump(mode="json")}}


def _inputs(function: Any) -> dict[str, tf.TensorSpec]:
    return {spec.name: spec for spec in tf.nest.flatten(function.structured_input_signature)}


def _tensor(value: Any, meanings: dict[str, str]) -> dict[str, Any]:
    entry = {"dtype": value.dtype.name, "shape": [size for size in value.shape]}
    return entry | ({"meaning": meanings[value.name]} if value.name in meanings else {})


def about(folder: Path) -> dict[str, Any]:
    """The model.json of a version folder. Raises CvrError where it was not written by `save_version`."""
    path = folder / EXTRA / MODEL_FILE
    if not path.is_file():
        raise CvrError(f"no {EXTRA}/{MODEL_FILE} in {folder}: it was not written by export.save; export the run again")
    return json.loads(path.read_text(encoding="utf-8"))
