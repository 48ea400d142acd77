"""A served model without training: a ranker on reference content with random weights, exported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cvr.data import dummy_batch
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.runs import SPEC_FILE, Run
from cvr.schema import parse_spec
from export.batching import Batching
from export.saved_model import save_version
from tools.benchmarks.reference_batch import reference_text

DIM = 16


def export_untrained(folder: Path, backbone: str, factors: dict[str, Any], rows: int, batching: Batching) -> tuple[Path, Ranker]:
    """Builds a ranker and publishes it as version 1 under `folder`/export; gives the version folder and the ranker."""
    text = reference_text(rows, DIM)
    spec = parse_spec(text)
    config = RankerConfig(backbone, factors)
    ranker = build_ranker(spec, config, dummy_batch(spec))
    run = folder / "run"
    run.mkdir(parents=True)
    (run / SPEC_FILE).write_text(text, encoding="utf-8")
    info = {"status": "finished", "model": dataclasses.asdict(config), "checkpoint": "untrained", "data": "0"}
    return save_version(Run(run, info, spec), ranker, folder / "export", 1, batching), ranker
