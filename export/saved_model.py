"""A run and its ranker as a published SavedModel version, with what serving needs beside it in assets.extra/."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr import records
from cvr.calibration import Calibration, load_calibration
from cvr.errors import CvrError
from cvr.runs import RUN_FILE, SPEC_FILE, Run, versions
from cvr.schema import FeatureSpec
from export.batching import Batching
from export.example import example_search
from export.extras import EXAMPLE_FILE, EXTRA, MODEL_FILE, PARITY_FILE, QUANTISATION_FILE, WARMUP_FILE
from export.meanings import of_inputs, of_outputs
from export.placement import pin_variables
from export.prediction_log import predict_request
from export.probabilities import PREFIX
from export.request import to_arrays
from export.selfcheck import TOLERANCE, write_expected
from export.servable import DEFAULT_SIGNATURE, Servable, hush_dotted_names
from export.signatures import EXAMPLES, ServedRanker, ServingModule
from export.storage import Storage
from export.versions import publish
from export.warmup import spread, warmup_requests, write_requests

WARMUP_LENGTHS, WARMUP_LISTS = 16, 8
PARITY_LISTS = 8
MADE_UP_LENGTH = 5


def run_folder(path: str | Path) -> Path:
    """The folder with `run.json`: the path itself or its `model/`. Raises CvrError where neither has one."""
    for folder in (Path(path), Path(path) / "model"):
        if (folder / RUN_FILE).is_file():
            return folder
    raise CvrError(f"no {RUN_FILE} in {path} or {path}/model; train a model first: python -m cvr.train --output={path}/model ...")


@dataclasses.dataclass(frozen=True)
class Release:
    """What a version is given besides its model.

    `lists`: records of the run's spec, whose lengths and first ones become warm-up requests. `tables`: cpu or gpu. `storage`: how the
    ranker's weights were converted, and `quantisation` what that does (`export.quantisation`). `gate`: holds the version, before it is
    published, against the checkpoint; gives what model.json tells of it and raises CvrError where it fails.
    """

    lists: Sequence[bytes] = ()
    tables: str = "cpu"
    storage: Storage = Storage()  # noqa: RUF009 - frozen
    quantisation: dict[str, Any] | None = None
    gate: Callable[[Servable], dict[str, Any]] | None = None


def save_version(
    run: Run,
    ranker: ServedRanker,
    base: Path,
    version: int,
    batching: Batching,
    release: Release = Release(),  # noqa: B008 - frozen
) -> Path:
    """Writes, checks and publishes one version; gives its folder. A run with a calibration gets probabilities.

    Raises CvrError as `release.gate`, `export.versions.publish` and `cvr.calibration.load_calibration` do; then nothing is published.
    """
    calibration = load_calibration(run.folder, run.info["checkpoint"])
    module = ServingModule(run.spec, ranker, batching, calibration, release.tables)
    hush_dotted_names()

    def write(folder: Path) -> None:
        signatures = module.signatures()
        tf.saved_model.save(module, str(folder), signatures=signatures)
        pin_variables(folder)
        extra = folder / EXTRA
        extra.mkdir()
        (extra / SPEC_FILE).write_bytes((run.folder / SPEC_FILE).read_bytes())
        (extra / EXAMPLE_FILE).write_text(example_search(run.spec).to_json(), encoding="utf-8")
        if release.quantisation is not None:
            _write_json(extra / QUANTISATION_FILE, release.quantisation)
        with contextlib.closing(Servable(folder)) as servable:
            _write_requests(run.spec, servable, batching, release.lists)
            verdict = release.gate(servable) if release.gate else {}
        about = _describe(run, ranker, version, batching) | _calibrated(calibration)
        about |= {"tables_on": release.tables, "storage": dataclasses.asdict(release.storage), "parity": _parity(release, verdict)}
        _write_json(extra / MODEL_FILE, about | {"signatures": _signatures(run.spec, calibration, signatures)})

    return publish(base, version, write)


def _parity(release: Release, verdict: dict[str, Any]) -> dict[str, Any]:
    """The gate's verdict; products in bfloat16 may round otherwise on another processor, so a server allows for as much as the gate."""
    limit = max(TOLERANCE, verdict.get("tolerance", 0.0)) if release.storage.precision else TOLERANCE
    return {"checked": release.gate is not None, "selfcheck_tolerance": limit, **verdict}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_requests(spec: FeatureSpec, servable: Servable, batching: Batching, lists: Sequence[bytes]) -> None:
    """The warm-up file, and the requests whose answers a server compares."""
    sizes = records.parse(spec, tf.constant(lists))["list_size"].numpy() if lists else [MADE_UP_LENGTH]
    wanted = {*spread(sizes, WARMUP_LENGTHS), *batching.allowed_sizes}
    lengths = sorted({min(length, batching.max_request_items) for length in wanted})
    extra = servable.folder / EXTRA
    write_requests(extra / WARMUP_FILE, warmup_requests(spec, servable, lengths, lists[:WARMUP_LISTS]))
    searches = [example_search(spec, items, seed=items, gaps=0.1) for items in (1, 4, 9, 16) if items <= batching.max_request_items]
    raw = [predict_request(to_arrays(search, servable.inputs(DEFAULT_SIGNATURE)), DEFAULT_SIGNATURE) for search in searches]
    stored = [predict_request({EXAMPLES: np.array([record], object)}, "score_lists") for record in lists[:PARITY_LISTS]]
    write_expected(extra / PARITY_FILE, servable, raw + stored)


def _describe(run: Run, ranker: ServedRanker, version: int, batching: Batching) -> dict[str, Any]:
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
        "versions": versions(),
    }


def _signatures(spec: FeatureSpec, calibration: Calibration | None, signatures: dict[str, Any]) -> dict[str, Any]:
    inputs, outputs = of_inputs(spec), of_outputs(spec, calibration)
    return {
        name: {
            "inputs": {key: _tensor(value) | {"meaning": inputs[key]} for key, value in _inputs(function).items()},
            "outputs": {key: _tensor(value) | {"meaning": outputs[key]} for key, value in function.structured_outputs.items()},
        }
        for name, function in signatures.items()
    }


def _calibrated(calibration: Calibration | None) -> dict[str, Any]:
    """What model.json says of the probabilities: null where the run has none."""
    if calibration is None:
        return {"calibration": None}
    outputs = [f"{PREFIX}{task}" for task in calibration.tasks]
    return {"calibration": {"meaning": calibration.meaning, "outputs": outputs, "fitted": calibration.model_dump(mode="json")}}


def _inputs(function: Any) -> dict[str, tf.TensorSpec]:
    return {spec.name: spec for spec in tf.nest.flatten(function.structured_input_signature)}


def _tensor(value: Any) -> dict[str, Any]:
    return {"dtype": value.dtype.name, "shape": [size for size in value.shape]}
