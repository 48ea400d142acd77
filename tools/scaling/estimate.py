"""How long a study will take, from its own finished runs: seconds = START + share of the days x (a + b x multiply-adds)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import optimize

from cvr import backbones
from tools.scaling.declare import Arm
from tools.scaling.runs import Runs
from tools.studies.jobs import Job

START = 20.0
"""Seconds of a run that do not depend on its data: two starts of Python with TensorFlow, and tracing."""


def multiply_adds(arm: Arm) -> int:
    """Of the backbone, per item."""
    given = dict(arm.flags)
    name = given["backbone"]
    module = backbones.load(name)
    own = {key: value for key, value in given.items() if key in module.Config.__dataclass_fields__}
    typed = {key: value if module.Config.__dataclass_fields__[key].type == "str" else int(value) for key, value in own.items()}
    return int(module.Backbone(backbones.make_config(name, typed)).multiply_adds())


def pilots(runs: Runs, jobs: Mapping[tuple[str, int], Job]) -> list[Job]:
    """The runs that an estimate is made from, where none has finished yet: the lightest and the heaviest backbone, first seed."""
    if any(job.finished for job in jobs.values()):
        return []
    weights = {arm.name: multiply_adds(arm) for arm in runs.study.arms}
    ends = dict.fromkeys((min(weights, key=weights.__getitem__), max(weights, key=weights.__getitem__)))
    return [jobs[name, 0] for name in ends]


def minutes_left(runs: Runs, jobs: Mapping[tuple[str, int], Job]) -> float:
    """Minutes that unfinished jobs take one after the other, fitted to the finished ones by least squares with a, b >= 0."""
    work = {arm.name: (arm.lists.share, arm.lists.share * multiply_adds(arm)) for arm in runs.study.arms}
    done = [key for key, job in jobs.items() if job.finished]
    x = np.array([work[name] for name, _ in done], np.float64)
    scale = np.maximum(x.max(axis=0), 1e-9)
    weights, _ = optimize.nnls(x / scale, np.array([runs.info(*key)["seconds_train"] for key in done]))
    left = np.array([work[name] for name, seed in jobs if not jobs[name, seed].finished], np.float64).reshape(-1, 2)
    return float(np.sum(START + (left / scale) @ weights)) / 60
