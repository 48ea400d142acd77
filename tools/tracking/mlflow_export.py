"""Rows of runs and evaluations as runs of an MLflow tracking server; needs the extra `mlflow`."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cvr.errors import CvrError

KEY = "cvr.key"
_BATCH = 90
_LONGEST = 500
_NUMBERS = ("metric.", "cost.", "validation.")


def export(rows: Sequence[Mapping[str, Any]], uri: str, experiment: str) -> int:
    """Logs each row that the experiment does not have yet, settings as parameters, metrics and costs as metrics; returns how many.

    Raises CvrError where mlflow is not installed.
    """
    try:
        mlflow = importlib.import_module("mlflow")
    except ImportError as error:
        raise CvrError(f"--mlflow needs MLflow ({error}); install it: pip install 'cvr[mlflow]'") from error
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment)
    logged = 0
    for row in rows:
        key = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:32]
        if mlflow.search_runs(experiment_names=[experiment], filter_string=f"tags.`{KEY}` = '{key}'", output_format="list"):
            continue
        with mlflow.start_run(run_name=str(row["folder"])):
            mlflow.set_tags({KEY: key, "cvr.kind": row["kind"], "cvr.folder": row["folder"]})
            numbers, settings = split(row)
            for batch in _batches(settings):
                mlflow.log_params(batch)
            mlflow.log_metrics(numbers)
        logged += 1
    return logged


def split(row: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """(finite numbers among metrics and costs, all else that is known as text of at most 500 characters), by names that MLflow allows."""
    numbers, settings = {}, {}
    for name, value in row.items():
        allowed = re.sub(r"[^\w\-./ ]", "_", name)
        if name.startswith(_NUMBERS):
            if isinstance(value, (int, float)) and math.isfinite(value):
                numbers[allowed] = float(value)
        elif value is not None and name not in ("kind", "folder"):
            settings[allowed] = (value if isinstance(value, str) else json.dumps(value))[:_LONGEST]
    return numbers, settings


def _batches(settings: Mapping[str, str]) -> list[dict[str, str]]:
    items = list(settings.items())
    return [dict(items[start : start + _BATCH]) for start in range(0, len(items), _BATCH)]
