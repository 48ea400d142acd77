"""Cells of a study (levels of an axis, or combinations of factors): their means, costs, and replicates that carry the uncertainty.

Value of list q by seed s in cell i: X_isq = mean_i + list_iq + seed_is + interaction_isq. Replicates of the cells' means resample the
lists, the same ones in all cells, and add sqrt(V / S_i) z sqrt(f / chi2_f): V is the variance of the seeds, pooled over the cells, less
the interaction's part, which resampling lists already holds; f its degrees of freedom. A few seeds are too few to be resampled themselves.
Without values per list the replicates have the seeds only, and hold for those lists alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cvr.errors import CvrError
from tools.comparison.statistics import resampled_means
from tools.tracking.table import ResultRow

COSTS = ("flops_per_item", "training_seconds", "memory_bytes", "items_per_second")


def memory_bytes(row: ResultRow) -> int:
    """Bytes of the weights when serving: 4 per dense parameter, and the tables."""
    return 4 * row.dense_parameters + row.table_bytes


@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells in order. `means` `[C]`, `seeds` `[C]` their numbers, `replicates` `[R, C]` or None where nothing tells the uncertainty.

    `costs` of each cell `[C]`, by name: the median over seeds. `over_lists`: whether the replicates resample lists.
    """

    keys: tuple[Hashable, ...]
    arms: tuple[str, ...]
    means: np.ndarray
    seeds: np.ndarray
    replicates: np.ndarray | None
    costs: dict[str, np.ndarray]
    over_lists: bool


@dataclasses.dataclass(frozen=True)
class Draws:
    """How many replicates, from which seed."""

    replicates: int = 4000
    seed: int = 0


def gather(groups: Mapping[Hashable, Sequence[ResultRow]], draws: Draws) -> Cells:
    """The cells of rows of one task and metric, by key.

    Raises CvrError where they were not measured on the same lists, or evaluations do not hold what the rows say. The fingerprints of the
    lists' data may differ, as they do where features were added.
    """
    rows = [row for group in groups.values() for row in group]
    known = sorted({row.lists for row in rows})
    if len(known) > 1:
        told = f"{known[0]:,} and on {known[1]:,} lists"
        raise CvrError(f"study {rows[0].study}, {rows[0].axis}: rows measured on {told}; evaluate all models on the same lists")
    values = [np.array([row.value for row in group]) for group in groups.values()]
    means, seeds = np.array([v.mean() for v in values]), np.array([len(v) for v in values])
    lists = _per_list(list(groups.values()))
    return Cells(
        keys=tuple(groups),
        arms=tuple(group[0].arm for group in groups.values()),
        means=means,
        seeds=seeds,
        replicates=replicates_of(values, lists, draws),
        costs={name: np.array([np.median([_cost(row, name) for row in group]) for group in groups.values()]) for name in COSTS},
        over_lists=lists is not None,
    )


def _cost(row: ResultRow, name: str) -> float:
    return float(memory_bytes(row) if name == "memory_bytes" else getattr(row, name))


def replicates_of(values: Sequence[np.ndarray], lists: Sequence[np.ndarray] | None, draws: Draws) -> np.ndarray | None:
    """Replicates `[R, C]` of the means of `values`, one `[S_c]` per cell, given the values per list `[S_c, Q]` or not.

    None where there are neither lists nor a second seed in any cell.
    """
    source = np.random.default_rng(draws.seed)
    means, seeds = np.array([v.mean() for v in values]), np.array([len(v) for v in values])
    freedom = int((seeds - 1).sum())
    if lists is None and not freedom:
        return None
    found = np.tile(means, (draws.replicates, 1))
    variance = sum(float(np.sum((v - v.mean()) ** 2)) for v in values) / freedom if freedom else 0.0
    if lists is not None:
        count = lists[0].shape[1]
        own = np.stack([cell.mean(axis=0) for cell in lists], axis=1)
        drawn = resampled_means(own, np.arange(count), draws.replicates, source)
        found += np.sqrt(count / (count - 1)) * (drawn - own.mean(axis=0))
        variance = max(0.0, variance - _interaction(lists, freedom) / count) if freedom else 0.0
    if freedom and variance:
        stretch = np.sqrt(freedom / source.chisquare(freedom, (draws.replicates, 1)))
        found += np.sqrt(variance / seeds) * stretch * source.standard_normal(found.shape)
    return found


def _interaction(lists: Sequence[np.ndarray], freedom: int) -> float:
    """Variance of what neither seed nor list explains, pooled over the cells `[S, Q]`."""
    total = 0.0
    for cell in lists:
        residual = cell - cell.mean(axis=1, keepdims=True) - cell.mean(axis=0) + cell.mean()
        total += float(np.sum(residual**2))
    return total / (freedom * (lists[0].shape[1] - 1))


def _per_list(groups: Sequence[Sequence[ResultRow]]) -> list[np.ndarray] | None:
    """Values `[S, Q]` of each cell where every row names an evaluation that is there, else None."""
    rows = [row for group in groups for row in group]
    paths = [Path(row.evaluation) / "per_list.parquet" for row in rows]
    if not all(row.evaluation and path.is_file() for row, path in zip(rows, paths, strict=True)):
        return None
    columns = [_column(row, path) for row, path in zip(rows, paths, strict=True)]
    for column, path in zip(columns, paths, strict=True):
        if not column.index.equals(columns[0].index):
            raise CvrError(f"{paths[0]} and {path} hold different lists; evaluate all models of a study on the same")
    sizes = np.cumsum([len(group) for group in groups])[:-1]
    return np.split(np.stack([column.to_numpy(np.float64) for column in columns]), sizes)


def _column(row: ResultRow, path: Path) -> pd.Series:
    """The metric of each list on which it is defined, by search id. Raises CvrError where its mean is not the row's value."""
    try:
        frame = pd.read_parquet(path, columns=["search_id", "task", row.metric])
    except (OSError, ValueError) as error:
        raise CvrError(f"{path}: {error}; expected the columns search_id, task and {row.metric}, as cvr.evaluate writes") from error
    found = frame[frame["task"] == row.task].set_index("search_id")[row.metric].dropna().sort_index()
    if len(found) < 2 or abs(float(found.mean()) - row.value) > 1e-6:
        raise CvrError(
            f"{path}: {row.metric} of task {row.task} has the mean {found.mean():.6f} over {len(found):,} lists; "
            f"the result table says {row.value:.6f} for {row.arm}, seed {row.seed}: the evaluation is not the one that the table is of"
        )
    return found
