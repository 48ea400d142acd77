"""Axes of a study: what each level reached and cost, and its curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cvr.errors import CvrError
from tools.planning.cells import COSTS, Cells, Draws, gather
from tools.planning.curves import Fit, fits
from tools.tracking.table import FACTORIAL, ResultRow

SCALES = ("level", "flops_per_item", "training_seconds")
"""What curves are fitted over."""
_VARIES = 1.05


@dataclasses.dataclass(frozen=True)
class Axis:
    """One varied factor. `levels` `[L]` ascend; `base` is the place of the base configuration among them.

    `curves` holds the fits, the chosen one first, over each of SCALES along which the axis grows.
    """

    study: str
    name: str
    levels: np.ndarray
    base: int
    cells: Cells
    curves: dict[str, list[Fit]]

    @property
    def fit(self) -> Fit:
        """The chosen curve over the levels."""
        return self.curves["level"][0]

    def cost_at(self, name: str, level: float) -> float:
        """A cost at any level: between levels, and beyond the last two, a straight line in logarithms (of plain numbers with a 0)."""
        known = self.cells.costs[name]
        logarithmic = bool(np.all(known > 0))
        if level in self.levels:
            return float(known[np.flatnonzero(self.levels == level)[0]])
        x, y, at = np.log(self.levels), np.log(known) if logarithmic else known, np.log(level)
        place = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
        found = y[place] + (y[place + 1] - y[place]) * (at - x[place]) / (x[place + 1] - x[place])
        return float(np.exp(found)) if logarithmic else max(0.0, float(found))


def axes_of(rows: Sequence[ResultRow], draws: Draws) -> list[Axis]:
    """Every axis of two or more levels, of rows of one task and metric.

    Raises CvrError for an axis whose base level is not marked, or marked at several levels.
    """
    names = dict.fromkeys((row.study, row.axis) for row in rows if row.axis != FACTORIAL)
    own = [[row for row in rows if (row.study, row.axis) == name] for name in names]
    return [_axis(found, draws) for found in own if len({row.level for row in found}) > 1]


def _axis(rows: Sequence[ResultRow], draws: Draws) -> Axis:
    levels = sorted({row.level for row in rows})
    bases = {row.level for row in rows if row.base}
    if len(bases) != 1:
        told = f"marked at the levels {', '.join(f'{level:g}' for level in sorted(bases))}" if bases else "not among them"
        raise CvrError(f"study {rows[0].study}, axis {rows[0].axis}: the base is {told}; set `base` in the rows of one level")
    cells = gather({level: [row for row in rows if row.level == level] for level in levels}, draws)
    scales = {"level": np.array(levels), **{name: cells.costs[name] for name in COSTS if name in SCALES}}
    curves = {name: _curves(scale, cells) for name, scale in scales.items() if name == "level" or _grows(scale)}
    return Axis(rows[0].study, rows[0].axis, np.array(levels), levels.index(bases.pop()), cells, curves)


def _grows(scale: np.ndarray) -> bool:
    return bool(scale[0] > 0 and np.all(np.diff(scale) > 0) and scale[-1] >= _VARIES * scale[0])


def _curves(scale: np.ndarray, cells: Cells) -> list[Fit]:
    return fits(scale, cells.means, cells.replicates, cells.seeds.astype(np.float64))
