"""LightGBM's LambdaMART on matrices of items, stopped early by the mAP that `cvr.evaluate` reports."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np

from cvr.errors import CvrError
from cvr.metrics import rank_metrics, tie_breaker
from cvr.scoring import ScoredLists

DEFAULTS: dict[str, float | int] = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "lambda_l2": 10.0,
    "lambdarank_truncation_level": 30,
}
"""LightGBM's parameters that `--params` may set; `bagging_fraction` draws whole lists."""


def load_lightgbm() -> ModuleType:
    """The library. Raises CvrError saying how to install it, or OpenMP's runtime, which it needs."""
    try:
        import lightgbm
    except ImportError as error:
        raise CvrError('LightGBM is not installed; it is an extra: pip install "cvr[gbdt]", or pip install "lightgbm>=4.6"') from error
    except OSError as error:
        raise CvrError(f"LightGBM cannot be loaded: {error}; it needs OpenMP's runtime (Debian, Ubuntu: apt install libgomp1)") from error
    return lightgbm


def parse_params(pairs: list[str]) -> dict[str, float | int]:
    """`["num_leaves=31", ..]` over the defaults. Raises CvrError for an unknown name or a value of the wrong type."""
    params = dict(DEFAULTS)
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in DEFAULTS:
            raise CvrError(f"--params: unknown parameter {name!r}; there are {', '.join(DEFAULTS)}")
        try:
            params[name] = type(DEFAULTS[name])(text)
        except ValueError as error:
            raise CvrError(f"--params: {name}={text!r} is no {type(DEFAULTS[name]).__name__}") from error
    return params


@dataclasses.dataclass(frozen=True)
class Ranking:
    """One task's lists that have a positive, the only ones with a gradient: `values` `[N, C]`, `labels` `[N]`, `lengths` `[Q]`."""

    values: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    item: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, lists: ScoredLists, task: int) -> Ranking:
        """The lists' rows of `values` for task number `task`."""
        positive = lists.labels[:, task] > 0
        starts = np.cumsum(lists.lengths) - lists.lengths
        chosen = np.add.reduceat(positive, starts, dtype=np.int64) > 0
        rows = np.repeat(chosen, lists.lengths)
        return cls(values[rows], positive[rows].astype(np.float32), lists.lengths[chosen], lists.item[rows])

    def mean_average_precision(self, scores: np.ndarray) -> float:
        """Mean over the lists, ties as in `cvr.evaluate`."""
        return float(np.mean(rank_metrics(scores, self.labels, self.lengths, tie_breaker(self.item)).map))


@dataclasses.dataclass(frozen=True)
class Machine:
    """Threads and seed of a training; the same seed gives the same trees with any number of threads."""

    seed: int
    threads: int

    def params(self, chosen: dict[str, float | int]) -> dict[str, Any]:
        """All of LightGBM's parameters."""
        return {
            "objective": "lambdarank",
            "metric": "None",
            "bagging_freq": 1,
            "bagging_by_query": True,
            "feature_pre_filter": False,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            "seed": self.seed,
            "num_threads": self.threads,
            **chosen,
        }


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model, how many trees it has, and its mAP on the lists that stopped it (None without any)."""

    booster: Any
    trees: int
    validation_map: float | None

    def importances(self, names: tuple[str, ...]) -> list[tuple[str, float, int]]:
        """(column, total gain, number of splits), greatest gain first."""
        gains, splits = (self.booster.feature_importance(kind, iteration=self.trees) for kind in ("gain", "split"))
        return sorted(zip(names, map(float, gains), map(int, splits), strict=True), key=lambda row: -row[1])


class Booster:
    """Fits LambdaMART to training lists, as often as wanted: the columns are binned once."""

    def __init__(self, design: tuple[str, ...], categorical: list[str], train: Ranking, machine: Machine) -> None:
        self._library, self._machine = load_lightgbm(), machine
        self._train = self._dataset(train, feature_name=list(design), categorical_feature=categorical)

    def _dataset(self, ranking: Ranking, **columns: Any) -> Any:
        params = {k: v for k, v in self._machine.params({}).items() if k in ("feature_pre_filter", "deterministic", "seed", "verbosity")}
        return self._library.Dataset(
            ranking.values, ranking.labels, group=ranking.lengths, params=params, free_raw_data=False, **columns
        )

    def fit(self, chosen: dict[str, float | int], trees: int, validation: Ranking | None = None, patience: int = 0) -> Fitted:
        """At most `trees` trees; with `validation`, as many as had the best mAP there, after `patience` trees without a better one."""
        params = self._machine.params(chosen)
        if validation is None:
            return Fitted(self._library.train(params, self._train, trees), trees, None)

        def mean_average_precision(scores: np.ndarray, _: Any) -> tuple[str, float, bool]:
            return "map", validation.mean_average_precision(scores), True

        held_out = self._train.create_valid(validation.values, validation.labels, group=validation.lengths)
        booster = self._library.train(
            params,
            self._train,
            trees,
            valid_sets=[held_out],
            feval=mean_average_precision,
            callbacks=[self._library.early_stopping(patience, verbose=False)],
        )
        return Fitted(booster, booster.best_iteration, booster.best_score["valid_0"]["map"])
