"""Configurations that no other beats: at most the cost, at least the value, and one of both strictly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tools.planning.cells import memory_bytes
from tools.tracking.table import ResultRow


@dataclasses.dataclass(frozen=True)
class Point:
    """A configuration: mean value over its seeds, median costs."""

    study: str
    arm: str
    value: float
    flops_per_item: float
    training_seconds: float
    memory_bytes: float


def points(rows: Sequence[ResultRow]) -> list[Point]:
    """Every configuration of rows of one task and metric once, however many axes it is on."""
    found = []
    for study, arm in dict.fromkeys((row.study, row.arm) for row in rows):
        own = list({row.seed: row for row in rows if (row.study, row.arm) == (study, arm)}.values())
        value = float(np.mean([row.value for row in own]))
        costs = [[row.flops_per_item, row.training_seconds, memory_bytes(row)] for row in own]
        found.append(Point(study, arm, value, *map(float, np.median(costs, axis=0))))
    return found


def front(costs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which of N points, costs and values `[N]`, are on the front, bool `[N]`; equal points are all on it or none."""
    order = np.lexsort((-values, costs))
    best, found, cheapest = -np.inf, np.zeros(len(costs), bool), np.nan
    for place in order:
        equal = values[place] == best and costs[place] == cheapest
        if values[place] > best or equal:
            best, cheapest, found[place] = values[place], costs[place], True
    return found
