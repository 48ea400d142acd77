"""A random search over LambdaMART's parameters, judged by the mAP on validation lists alone."""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Any

from tools.gbdt.boosting import Booster, Ranking

GRID: dict[str, tuple[float | int, ...]] = {
    "learning_rate": (0.02, 0.05, 0.1),
    "num_leaves": (7, 15, 31, 63),
    "min_data_in_leaf": (20, 50, 100, 200),
    "feature_fraction": (0.3, 0.5, 0.8),
    "bagging_fraction": (0.5, 0.7, 1.0),
    "lambda_l2": (0.0, 1.0, 10.0, 30.0),
    "lambdarank_truncation_level": (3, 10, 30),
}


def draw(first: dict[str, float | int], count: int, seed: int) -> list[dict[str, float | int]]:
    """`count` different configurations: `first`, then random members of `GRID`."""
    source, found = random.Random(seed), [first]
    while len(found) < count:
        drawn = {name: source.choice(values) for name, values in GRID.items()}
        if drawn not in found:
            found.append(drawn)
    return found


@dataclasses.dataclass(frozen=True)
class Trial:
    """One configuration's result on the validation lists."""

    params: dict[str, float | int]
    validation_map: float
    trees: int
    seconds: float

    def describe(self) -> str:
        """A line for a terminal."""
        return f"validation mAP {self.validation_map:.4f}  {self.trees:4d} trees  {self.seconds:5.1f} s  {as_flag(self.params)}"


def as_flag(params: dict[str, float | int]) -> str:
    """The value of `--params` that asks for these."""
    return ",".join(f"{name}={value}" for name, value in params.items())


def search(
    booster: Booster, validation: Ranking, configurations: list[dict[str, float | int]], trees: int, patience: int
) -> tuple[Any, list[Trial]]:
    """(the best one's `Fitted`, all trials in order). The first of equals wins."""
    trials: list[Trial] = []
    best = None
    for params in configurations:
        started = time.perf_counter()
        fitted = booster.fit(params, trees, validation, patience)
        assert fitted.validation_map is not None
        if best is None or fitted.validation_map > max(trial.validation_map for trial in trials):
            best = fitted
        trials.append(Trial(params, fitted.validation_map, fitted.trees, time.perf_counter() - started))
        print(f"  {len(trials)}/{len(configurations)}  {trials[-1].describe()}", flush=True)
    return best, trials
