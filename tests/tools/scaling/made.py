"""Studies whose runs are finished already, with results that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.support import random_columns, tiny_spec, write_lists
from tools.scaling.declare import Study
from tools.scaling.runs import slug

LISTS = 60
BASE = np.linspace(0.3, 0.7, LISTS)
SEED_EFFECT = 0.0002


def finish(folder: Path, study: Study, gain: Callable[[str], float], flops: Callable[[str], int], seeds: int = 2) -> list[str]:
    """Writes the runs of all arms: mAP of an arm is .5 + gain on test and on validation, its seeds differ by 2 SEED_EFFECT. Gives flags."""
    write_lists(folder / "lists", {"train": [random_columns(tiny_spec(), 2)]})
    (folder / "base.flags").write_text("--epochs=1\n")
    for number, arm in enumerate(study.arms):
        for seed in range(seeds):
            info = {"validation": {"purchase": 0.5 + gain(arm.name)}, "flops_per_item": flops(arm.name), "flops_per_list": 500}
            info |= {"parameters": 1_234_567, "dense_parameters": 1000, "embedding_bytes": 4096}
            info |= {"seconds_train": 10.0, "items_per_second_train": 1000.0 + number}
            run = folder / "out" / "runs" / slug(arm.name) / f"seed{seed}"
            _write(run / "run.json", {**info, "status": "finished", "steps": 10, "items": 99})
            noise = np.random.default_rng(1000 * number + seed).normal(0, 1e-4, LISTS)
            values = BASE + gain(arm.name) + (2 * seed - 1) * SEED_EFFECT + noise - noise.mean()
            evaluation = folder / "out" / "evaluations" / slug(arm.name) / f"seed{seed}"
            tasks = {"purchase": {"map": float(values.mean()), "lists": LISTS}}
            _write(evaluation / "summary.json", {"split": "test", "data": "d", "tasks": tasks})
            frame = pd.DataFrame({"search_id": [f"s{i}" for i in range(LISTS)], "time": np.arange(LISTS), "items": 3, "positives": 1})
            frame.assign(map=values, task="purchase").to_parquet(evaluation / "per_list.parquet")
    return [f"--study={study.name}", f"--output={folder / 'out'}", f"--base={folder / 'base.flags'}", f"--seeds={seeds}", "--grid=",
            f"--lists={folder / 'lists'}", "--replicates=500"]  # fmt: skip


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
