"""Candidate steps: an axis times a factor from the base, what it gains and costs, and what speaks against it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tools.planning.axes import Axis
from tools.planning.curves import Interval, interval_of

REACH = 2.0
"""How far beyond the greatest measured level a step may go, as a factor: one doubling."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """The most that a model may cost; None: no limit. `p99_ms` needs a way to tell a latency from FLOPs per item over the base's."""

    flops_per_item: float | None = None
    training_seconds: float | None = None
    memory_bytes: float | None = None
    p99_ms: float | None = None


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of one model; P99 None where no serving curve was given."""

    flops_per_item: float
    training_seconds: float
    memory_bytes: float
    p99_ms: float | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """One candidate. `gain` is in units of the metric, `relative` to the base's value, each with its 95 % interval where it is known.

    The gain is the chosen curve's; the interval holds the intervals of all curves that the last level does not refute. `measured` and its
    interval are the plain difference of the two levels, where both were measured, relative to the base.
    basis: "curve" or, where the curve missed its last level, "measured" (the difference of the two levels); None beyond all reach.
    against: why it is not recommended, in words; empty for a step that may be.
    """

    study: str
    axis: str
    start: float
    end: float
    basis: str | None
    extrapolated: bool
    gain: float
    interval: Interval | None
    relative: float
    relative_interval: Interval | None
    measured: float | None
    measured_interval: Interval | None
    now: Costs
    then: Costs
    against: tuple[str, ...]

    @property
    def name(self) -> str:
        """As "double cross_width (64 to 128)"."""
        factor = self.end / self.start
        return f"{'double' if factor == 2 else f'{factor:g} times'} {self.axis} ({self.start:g} to {self.end:g})"

    def per(self, cost: str) -> float | None:
        """Gain per doubling of a cost (its log2 ratio); None where the cost does not grow by at least 1 %."""
        ratio = self.ratio(cost)
        return self.gain / math.log2(ratio) if ratio is not None and ratio > 1.01 else None

    def ratio(self, cost: str) -> float | None:
        """The step's cost over the base's; None where the base has none."""
        now, then = getattr(self.now, cost), getattr(self.then, cost)
        return then / now if now else None

    def as_json(self) -> dict[str, Any]:
        """As plain values; an infinite P99 (some requests are never answered) as null."""
        efficiency = {f"gain_per_doubling_of_{cost}": self.per(cost) for cost in ("flops_per_item", "training_seconds")}
        own = dataclasses.asdict(self)
        for costs in (own["now"], own["then"]):
            costs["p99_ms"] = None if costs["p99_ms"] == math.inf else costs["p99_ms"]
        return {"name": self.name, **own, **efficiency, "recommended": not self.against}


Latency = Callable[[float], float]
"""P99 in ms of a model by its FLOPs per item over the base's."""


def steps_of(axis: Axis, factors: Sequence[float], budget: Budget, latency: Latency | None) -> list[Step]:
    """The axis times each factor, from its base level."""
    now = _costs(axis, float(axis.levels[axis.base]), latency)
    return [_step(axis, float(axis.levels[axis.base]) * factor, now, budget, latency) for factor in factors]


def _costs(axis: Axis, level: float, latency: Latency | None) -> Costs:
    flops, seconds, memory = (axis.cost_at(name, level) for name in ("flops_per_item", "training_seconds", "memory_bytes"))
    base = float(axis.cells.costs["flops_per_item"][axis.base])
    return Costs(flops, seconds, memory, None if latency is None else latency(flops / base if base else 1.0))


def _step(axis: Axis, end: float, now: Costs, budget: Budget, latency: Latency | None) -> Step:
    start, top = float(axis.levels[axis.base]), float(axis.levels[-1])
    beyond = end > REACH * top
    basis, gain, drawn = _gain(axis, start, end) if not beyond else (None, math.nan, [])
    base, bases = float(axis.cells.means[axis.base]), axis.cells.replicates
    measured, drawn_measured = _measured(axis, end) if end in axis.levels else (None, [])
    found = Step(
        study=axis.study,
        axis=axis.name,
        start=start,
        end=end,
        basis=basis,
        extrapolated=end > top,
        gain=gain,
        interval=_hull(drawn),
        relative=gain / base if base else math.nan,
        relative_interval=None if bases is None else _hull([one / bases[:, axis.base] for one in drawn]),
        measured=measured / base if measured is not None and base else None,
        measured_interval=None if bases is None else _hull([one / bases[:, axis.base] for one in drawn_measured]),
        now=now,
        then=now if beyond else _costs(axis, end, latency),
        against=(),
    )
    told = [f"beyond the measured range: more than one doubling past {top:g}"] if beyond else [*_doubts(axis, found), *_over(found, budget)]
    return dataclasses.replace(found, against=tuple(told))


def _hull(drawn: Sequence[np.ndarray]) -> Interval | None:
    """From the lowest to the highest end of the intervals of replicates `[R]` each; None without any."""
    ends = [interval_of(one) for one in drawn]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def _gain(axis: Axis, start: float, end: float) -> tuple[str, float, list[np.ndarray]]:
    """(basis, gain, replicates `[R]` of each curve that holds). By curve, unless it missed its last level and both levels were measured."""
    measured = end in axis.levels
    if _missed(axis) and measured:
        return ("measured", *_measured(axis, end))
    drawn, gain = [], math.nan
    for place, fit in enumerate(axis.curves["level"]):
        value, replicates = fit.at(np.array([start, end]))
        gain = float(value[1] - value[0]) if place == 0 else gain
        if replicates is not None and (place == 0 or (fit.last_out is not None and fit.last_out.held)):
            drawn.append(replicates[:, 1] - replicates[:, 0])
    return "curve", gain, drawn


def _measured(axis: Axis, end: float) -> tuple[float, list[np.ndarray]]:
    """The difference of a measured level to the base, and its replicates."""
    place, drawn = int(np.flatnonzero(axis.levels == end)[0]), axis.cells.replicates
    gain = float(axis.cells.means[place] - axis.cells.means[axis.base])
    return gain, [] if drawn is None else [drawn[:, place] - drawn[:, axis.base]]


def _missed(axis: Axis) -> bool:
    return axis.fit.last_out is not None and axis.fit.last_out.held is False


def _doubts(axis: Axis, step: Step) -> list[str]:
    """What the evidence does not carry."""
    found = []
    if step.interval is None:
        found.append("no interval: train two or more seeds, or keep the evaluations")
    elif step.interval[0] <= 0 <= step.interval[1]:
        found.append("the interval includes 0")
    elif step.interval[1] < 0:
        found.append("it loses")
    if step.basis == "curve" and _missed(axis):
        found.append("the curve missed its last level, and this one was not measured")
    if step.extrapolated and axis.fit.last_out is None:
        found.append("beyond the measured range by a curve of two levels, which nothing checks")
    return found


def _over(step: Step, budget: Budget) -> list[str]:
    """The budgets that the step breaks."""
    found = []
    for field in dataclasses.fields(Budget):
        limit, cost = getattr(budget, field.name), getattr(step.then, field.name)
        if limit is not None and cost is not None and cost > limit:
            found.append(f"over budget: {field.name} {cost:,.4g} of {limit:,.4g}")
    return found


def ranked(steps: Sequence[Step], by: str) -> list[Step]:
    """Steps that may be recommended first; then by gain, or by gain per doubling of a cost, with those that do not raise it before.

    A step that costs nothing of what is scarce comes before all that do, the greater gain first.
    """

    def order(step: Step) -> tuple[bool, bool, float]:
        value = step.gain if by == "gain" else step.per(by)
        free = by != "gain" and value is None
        worth = step.gain if value is None else value
        return (bool(step.against), not free, math.inf if math.isnan(worth) else -worth)

    return sorted(steps, key=order)
