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

    basis: "curve" or, where the curve missed its last level, "measured" (the difference of the two levels), or None without either.
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
    basis, gain, drawn = (None, math.nan, None) if beyond else _gain(axis, start, end)
    then = now if beyond else _costs(axis, end, latency)
    value = float(axis.cells.means[axis.base])
    relative = None if drawn is None or axis.cells.replicates is None else interval_of(drawn / axis.cells.replicates[:, axis.base])
    found = Step(
        study=axis.study,
        axis=axis.name,
        start=start,
        end=end,
        basis=basis,
        extrapolated=end > top,
        gain=gain,
        interval=None if drawn is None else interval_of(drawn),
        relative=gain / value if value else math.nan,
        relative_interval=relative,
        now=now,
        then=then,
        against=(),
    )
    told = [f"beyond the measured range: more than one doubling past {top:g}"] if beyond else [*_doubts(axis, found), *_over(found, budget)]
    return dataclasses.replace(found, against=tuple(told))


def _gain(axis: Axis, start: float, end: float) -> tuple[str | None, float, np.ndarray | None]:
    """(basis, gain, replicates `[R]`). The curve, unless it missed its last level and both levels were measured."""
    measured = end in axis.levels
    if axis.fit is not None and not (_missed(axis) and measured):
        value, drawn = axis.fit.at(np.array([start, end]))
        return "curve", float(value[1] - value[0]), None if drawn is None else drawn[:, 1] - drawn[:, 0]
    if not measured:
        return None, math.nan, None
    place, drawn = int(np.flatnonzero(axis.levels == end)[0]), axis.cells.replicates
    gain = float(axis.cells.means[place] - axis.cells.means[axis.base])
    return "measured", gain, None if drawn is None else drawn[:, place] - drawn[:, axis.base]


def _missed(axis: Axis) -> bool:
    return axis.fit is not None and axis.fit.last_out is not None and axis.fit.last_out.held is False


def _doubts(axis: Axis, step: Step) -> list[str]:
    """What the evidence does not carry."""
    if step.basis is None:
        return ["no curve: one level was measured"]
    found = []
    if step.interval is None:
        found.append("no interval: train two or more seeds, or keep the evaluations")
    elif step.interval[0] <= 0 <= step.interval[1]:
        found.append("the interval includes 0")
    elif step.interval[1] < 0:
        found.append("it loses")
    if step.basis == "curve" and _missed(axis):
        found.append("the curve missed its last level, and this one was not measured")
    if step.extrapolated and axis.fit is not None and axis.fit.last_out is None:
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
