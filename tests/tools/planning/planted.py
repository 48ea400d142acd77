"""Result tables with a planted truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tools.tracking.table import ResultRow

Law = Callable[[float], float]


def rows_of(
    axis: str, levels: Sequence[float], law: Law, seeds: int = 3, noise: float = 0.0, flops: float = 1.0, training: float = 0.5,
    source: int | np.random.Generator = 0,
) -> list[ResultRow]:  # fmt: skip
    """An axis whose first level is the base (1e6 FLOPs, 100 s), costs growing with powers of the level, values of `law` plus noise."""
    drawn = np.random.default_rng(source)
    return [
        row(axis, level, seed, law(level) + noise * drawn.standard_normal(), flops, training, levels[0])
        for level in levels
        for seed in range(seeds)
    ]


def row(axis: str, level: float, seed: int, value: float, flops: float = 0.0, training: float = 0.0, base: float = 1.0) -> ResultRow:
    """One row; the base's arm has the same name on all axes."""
    ratio = level / base
    return ResultRow(
        study="planted",
        arm="base" if level == base else f"{axis}={level:g}",
        axis=axis,
        level=level,
        seed=seed,
        task="purchase",
        metric="map",
        value=value,
        lists=1000,
        flops_per_item=1e6 * ratio**flops,
        dense_parameters=1000 * int(ratio),
        table_bytes=0,
        training_seconds=100 * ratio**training,
        items_per_second=1e4,
        base=level == base,
    )
