"""How long a study will take, from its own finished runs: seconds = START + share of the days x (a + b x multiply-adds)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from scipy import optimize

from cvr import backbones
from tools.scaling.declare import Arm, Study, runs_in
from tools.scaling.runs import Runs
from tools.studies.jobs import Job

START = 20.0
"""Seconds of a run that do not depend on its data: two starts of Python with TensorFlow, and tracing."""


def multiply_adds(arm: Arm, study: Study | None = None, base: str = "") -> int:
    """Of the backbone, per item, and of the teacher's where the arm has one: as many if it learns beside the student, a third if it is a
    finished run of `study`, which makes no backward pass. Factors that the arm leaves out are those of the flagfile `base`."""
    own = dict(arm.flags)
    given = own if "backbone" in own or not base else {**flags_in(base), **own}
    total = _of_backbone(given)
    if own.get("teacher_flagfile"):
        total += _of_backbone(flags_in(own["teacher_flagfile"]))
    elif study and "teacher_run" in own:
        total += sum(multiply_adds(study.arm(name), study, base) for name in runs_in(own["teacher_run"])) // 3
    return total


def flags_in(flagfile: str) -> dict[str, str]:
    """Values by name in a flagfile and in those that it includes; of one that is given twice the last."""
    lines = flags.FlagValues().read_flags_from_files([f"--flagfile={flagfile}"], force_gnu=False)
    pairs = (line.lstrip("-").partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def _of_backbone(given: Mapping[str, str]) -> int:
    name = given.get("backbone", "masknet")
    module = backbones.load(name)
    fields = module.Config.__dataclass_fields__
    typed = {key: _value(fields[key].type, value) for key, value in given.items() if key in fields}
    return int(module.Backbone(backbones.make_config(name, typed, given.get("variant"))).multiply_adds())


def _value(kind: Any, text: str) -> Any:
    name = kind if isinstance(kind, str) else kind.__name__
    if name == "bool":
        return text.lower() in ("", "true", "1")
    return {"int": int, "float": float, "str": str}[name](text)


def pilots(runs: Runs, jobs: Mapping[tuple[str, int], Job]) -> list[Job]:
    """The runs that an estimate is made from, where none has finished yet, first seed: the lightest and the heaviest backbone, one of each
    program that is no training of a ranker, and what these need."""
    if any(job.finished for job in jobs.values()):
        return []
    study = runs.study
    weights = {arm.name: _work(runs, arm) for arm in study.evaluated}
    ends = [min(weights, key=weights.__getitem__), max(weights, key=weights.__getitem__)]
    others = {arm.program: arm.name for arm in reversed(study.arms) if not arm.is_evaluated}
    chosen = dict.fromkeys([*ends, *others.values()])
    return [jobs[name, 0] for name in dict.fromkeys(one for name in chosen for one in (*study.before(name), name))]


def minutes_left(runs: Runs, jobs: Mapping[tuple[str, int], Job]) -> float:
    """Minutes that unfinished jobs take one after the other: of trainings fitted to the finished ones by least squares with a, b >= 0, of
    other programs the mean of the finished ones, START alone where there is none."""
    arms = {arm.name: arm for arm in runs.study.arms}
    seconds = 0.0
    for program in dict.fromkeys(arm.program for arm in arms.values()):
        own = {name: arm for name, arm in arms.items() if arm.program == program}
        done, left = ([key for key in jobs if key[0] in own and jobs[key].finished is state] for state in (True, False))
        work = {name: np.array([arm.lists.share, arm.lists.share * _work(runs, arm)]) for name, arm in own.items()}
        seconds += START * len(left) + (_fitted(runs, work, done, left) if done and left else 0.0)
    return seconds / 60


def _work(runs: Runs, arm: Arm) -> int:
    """What the time of a run is taken to grow with."""
    return multiply_adds(arm, runs.study, runs.flagfile if Path(runs.flagfile).is_file() else "") if arm.is_evaluated else 0


def _fitted(runs: Runs, work: Mapping[str, np.ndarray], done: list[tuple[str, int]], left: list[tuple[str, int]]) -> float:
    x = np.array([work[name] for name, _ in done], np.float64)
    scale = np.maximum(x.max(axis=0), 1e-9)
    weights, _ = optimize.nnls(x / scale, np.array([runs.info(*key)["seconds_train"] for key in done]))
    return float(np.sum((np.array([work[name] for name, _ in left], np.float64) / scale) @ weights))
