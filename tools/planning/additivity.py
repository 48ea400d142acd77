"""Whether gains add up: the interaction of factors that a factorial raised alone and together.

    I(F) = y(F) - y(none) - sum over f in F of (y(f) - y(none))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.planning.cells import Draws, gather
from tools.planning.curves import Interval, interval_of
from tools.tracking.table import FACTORIAL, ResultRow


@dataclasses.dataclass(frozen=True)
class Interaction:
    """A set of factors raised together against the sum of what each gained alone; `interval` of the interaction, None if not known."""

    study: str
    factors: tuple[str, ...]
    alone: tuple[float, ...]
    together: float
    interaction: float
    interval: Interval | None

    @property
    def verdict(self) -> str:
        """What the interval says."""
        if self.interval is None:
            return "unknown: no second seed and no values per list"
        if self.interval[0] > 0:
            return "more than additive"
        return "less than additive" if self.interval[1] < 0 else "additive as far as the interval tells"

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**dataclasses.asdict(self), "sum": sum(self.alone), "verdict": self.verdict}


def interactions(rows: Sequence[ResultRow], draws: Draws) -> list[Interaction]:
    """Of every set of two or more factors that was measured together with none and with each of its factors alone."""
    found = []
    for study in dict.fromkeys(row.study for row in rows if row.axis == FACTORIAL):
        own = [row for row in rows if (row.study, row.axis) == (study, FACTORIAL)]
        sets = sorted({row.factors for row in own}, key=lambda factors: (len(factors), sorted(factors)))
        cells = gather({factors: [row for row in own if row.factors == factors] for factors in sets}, draws)
        for factors in sets:
            parts = [frozenset(), *(frozenset({name}) for name in sorted(factors)), factors]
            if len(factors) >= 2 and all(part in sets for part in parts):
                places = [sets.index(part) for part in parts]
                drawn = None if cells.replicates is None else cells.replicates[:, places]
                found.append(_interaction(study, sorted(factors), cells.means[places], drawn))
    return found


def _interaction(study: str, factors: Sequence[str], means: np.ndarray, drawn: np.ndarray | None) -> Interaction:
    """From the means `[2 + F]` of none, each alone, and all."""
    contrast = np.array([len(factors) - 1.0, *[-1.0] * len(factors), 1.0])
    alone = tuple((means[1:-1] - means[0]).tolist())
    interval = None if drawn is None else interval_of(drawn @ contrast)
    return Interaction(study, tuple(factors), alone, float(means[-1] - means[0]), float(means @ contrast), interval)
