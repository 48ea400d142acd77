"""What the runs of a study found: mAP list by list, costs, and any sum of arms with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.comparison.evaluations import Evaluations, System
from tools.comparison.statistics import Comparison, Resampling, compare
from tools.scaling.declare import Study
from tools.studies.backbones import read
from tools.tracking.table import FACTORIAL, ResultRow


class Results:
    """Of all arms that are evaluated: `values` has mAP of the task, `[S, Q]` by arm, `infos` what each training wrote, by arm and seed.

    Raises CvrError where the evaluations are not of the same searches and labels.
    """

    def __init__(
        self, study: Study, evaluations: Mapping[str, Sequence[Path]], infos: Mapping[str, Sequence[dict[str, Any]]], task: str
    ) -> None:
        self.study, self.infos, self.task = study, infos, task
        self._evaluations = evaluations
        systems = [System(arm.name, tuple(evaluations[arm.name])) for arm in study.evaluated]
        self.values = Evaluations(systems, same_data=False).values(task, "map").systems

    def map(self, arm: str) -> float:
        """Mean over lists and seeds."""
        return float(self.values[arm].mean())

    def validation(self, arm: str) -> float:
        """mAP on the validation lists, mean over seeds: what arms may be chosen by."""
        return float(np.mean([info["validation"][self.task] for info in self.infos[arm]]))

    def cost(self, arm: str, name: str) -> float:
        """A number of `run.json`, mean over seeds."""
        return float(np.mean([info[name] for info in self.infos[arm]]))

    def linear(self, terms: Sequence[tuple[str, float]], how: Resampling) -> Comparison:
        """Sum of coefficient times mAP: the arms with positive coefficients against those with negative ones.

        The lists of both are the same, so they are paired; each side's variance over seeds is that of its own weighted sum.
        """
        sides = []
        for sign in (-1.0, 1.0):
            own = [(arm, coefficient * sign) for arm, coefficient in terms if coefficient * sign > 0]
            seeds = min(len(self.values[arm]) for arm, _ in own)
            sides.append(np.sum([coefficient * self.values[arm][:seeds] for arm, coefficient in own], axis=0))
        return compare(sides[0], sides[1], how)

    def slope(self, arms: Sequence[str], x: Sequence[float]) -> tuple[tuple[str, float], ...]:
        """Terms of the least-squares slope of mAP over log2 x: c_i = (l_i - mean l) / sum of (l - mean l)^2."""
        logs = np.log2(np.asarray(x, np.float64))
        centred = logs - logs.mean()
        return tuple(zip(arms, (centred / np.sum(centred**2)).tolist(), strict=True))

    def rows(self, folder: Path) -> list[ResultRow]:
        """The result table: a row per axis an arm is on (or its place in a factorial), seed and task."""
        return [row for name, level, arm, base, raised in self._places() for row in self._rows(folder, (name, level, base, raised), arm)]

    def _places(self) -> Iterator[tuple[str, float, str, bool, str]]:
        for axis in self.study.axes:
            for level, arm in axis.levels:
                yield axis.name, level, arm, level == axis.base, ""
        for arm, raised in self.study.raised.items():
            yield FACTORIAL, float(1 + (raised.count("+") + 1 if raised else 0)), arm, not raised, raised
        placed = {arm for axis in self.study.axes for _, arm in axis.levels} | set(self.study.raised)
        for name in (arm.name for arm in self.study.evaluated if arm.name not in placed):
            yield name, 1.0, name, True, ""

    def _rows(self, folder: Path, place: tuple[str, float, bool, str], arm: str) -> Iterator[ResultRow]:
        axis, level, base, raised = place
        for seed, (evaluation, info) in enumerate(zip(self._evaluations[arm], self.infos[arm], strict=True)):
            summary = read(evaluation / "summary.json")
            for task, found in summary["tasks"].items():
                yield ResultRow(
                    study=self.study.name, arm=arm, axis=axis, level=level, seed=seed, task=task, metric="map", value=found["map"],
                    lists=found["lists"], flops_per_item=info["flops_per_item"], dense_parameters=info["dense_parameters"],
                    table_bytes=info["embedding_bytes"], training_seconds=info["seconds_train"],
                    items_per_second=info["items_per_second_train"], base=base, raised=raised, data=summary["data"],
                    evaluation=str(evaluation.relative_to(folder)),
                )  # fmt: skip


def relative(value: float, reference: float) -> float:
    """A difference in percent of the reference."""
    return 100 * value / reference if reference else math.nan
