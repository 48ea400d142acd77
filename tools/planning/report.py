"""A plan in words: `plan.md`, and the same as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.planning.additivity import Interaction
from tools.planning.axes import Axis
from tools.planning.curves import Fit, Interval, interval_of
from tools.planning.pareto import Point, front
from tools.planning.steps import Step

RANKINGS = ("gain", "flops_per_item", "training_seconds")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is reported. `steps` are in their order; `settings` what was asked for."""

    metric: str
    task: str
    axes: list[Axis]
    interactions: list[Interaction]
    steps: list[Step]
    points: list[Point]
    settings: Mapping[str, Any]

    @property
    def recommended(self) -> Step | None:
        """The first step that nothing speaks against."""
        return next((step for step in self.steps if not step.against), None)


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain values."""
    step = plan.recommended
    return {
        "metric": plan.metric,
        "task": plan.task,
        "settings": dict(plan.settings),
        "recommended": None if step is None else step.name,
        "steps": [step.as_json() for step in plan.steps],
        "axes": [_axis(axis) for axis in plan.axes],
        "additivity": [found.as_json() for found in plan.interactions],
        "front": {cost: front_of(plan.points, cost) for cost in ("flops_per_item", "training_seconds")},
        "points": [dataclasses.asdict(point) for point in plan.points],
    }


def front_of(points: Sequence[Point], cost: str) -> list[str]:
    """Names on the front, the cheapest first."""
    costs, values = np.array([getattr(point, cost) for point in points]), np.array([point.value for point in points])
    on = front(costs, values)
    return [points[place].arm for place in np.argsort(costs, kind="stable") if on[place]]


def _axis(axis: Axis) -> dict[str, Any]:
    fits = {scale: [_fit(fit) for fit in found] for scale, found in axis.curves.items()}
    return {
        "study": axis.study,
        "name": axis.name,
        "levels": axis.levels.tolist(),
        "base": float(axis.levels[axis.base]),
        "means": axis.cells.means.tolist(),
        "seeds": axis.cells.seeds.tolist(),
        "intervals_over_lists": axis.cells.over_lists,
        "costs": {name: values.tolist() for name, values in axis.cells.costs.items()},
        "curves": fits,
    }


def _fit(fit: Fit) -> dict[str, Any]:
    parameters = {
        name: {"value": float(fit.values[place]), "interval": None if fit.replicates is None else interval_of(fit.replicates[:, place])}
        for place, name in enumerate(fit.form.parameters)
    }
    return {"form": fit.form.name, "parameters": parameters, "last_out": None if fit.last_out is None else dataclasses.asdict(fit.last_out)}


def markdown(plan: Plan) -> str:
    """`plan.md`."""
    parts = [f"# Plan: {plan.task}, {plan.metric}", _headline(plan), "## Steps", _table(STEP_HEAD, [_step_cells(s) for s in plan.steps])]
    parts += [_REFUSALS, "![steps](steps.png)", "## Curves", _table(CURVE_HEAD, [row for axis in plan.axes for row in _curve_cells(axis)])]
    parts += [_CURVES, "![curves](curves.png)", "## Additivity", _additivity(plan.interactions), "## Pareto front"]
    parts += [f"- by {cost}: {', '.join(front_of(plan.points, cost))}" for cost in ("flops_per_item", "training_seconds")]
    parts += ["![Pareto fronts](pareto.png)"]
    return "\n\n".join(parts) + "\n"


_REFUSALS = (
    "*Gain* is the chosen curve's, its interval holds those of all curves that the last level does not refute; *as measured* is the plain "
    "difference of the two levels. Gains are against the base, each with its own 95 % interval: the best of many steps is, on average, "
    "less good than it looks. "
    "*Per doubling*: gain for a doubling of that cost; `free` where the cost does not grow by 1 %."
)
_CURVES = (
    "The chosen form of each is marked; it is the one that, fitted without the last level, errs least there. "
    "An error whose interval excludes 0 is a curve that does not hold."
)
STEP_HEAD = (
    *("step", "gain", "95 %", "as measured"),
    *("FLOPs per item", "training s", "memory MB", "P99 ms", "per doubling of FLOPs", "of training", ""),
)
CURVE_HEAD = ("axis", "over", "form", "parameters", "error at the last level, left out", "")


def line(step: Step, metric: str) -> str:
    """A step in one sentence."""
    interval = "" if step.relative_interval is None else f" {percent(step.relative_interval)}"
    cost = f"{step.then.flops_per_item:,.4g} FLOPs per item ({step.ratio('flops_per_item') or 1:.2f}x)"
    training = f"{step.then.training_seconds:,.4g} s of training ({step.ratio('training_seconds') or 1:.2f}x)"
    marks = " (extrapolated)" if step.extrapolated else ""
    return f"{step.name}: {step.relative:+.2%}{interval} {metric} for {cost}, {training}{marks}"


def percent(interval: Interval) -> str:
    """As [+0.10 %, +0.32 %]."""
    return f"[{interval[0]:+.2%}, {interval[1]:+.2%}]"


def _headline(plan: Plan) -> str:
    step = plan.recommended
    if step is None:
        return "**No step can be recommended**: something speaks against each, see below."
    return f"**{line(step, plan.metric)}.**"


def _step_cells(step: Step) -> tuple[str, ...]:
    reason = "; ".join(step.against) or "may be taken"
    note = f"{reason} ({step.basis or 'no value'}{', extrapolated' if step.extrapolated else ''})"
    if step.basis is None:
        return (step.name, *["-"] * (len(STEP_HEAD) - 2), note)
    interval = "-" if step.relative_interval is None else percent(step.relative_interval)
    then = step.then
    costs = (f"{then.flops_per_item:,.4g}", f"{then.training_seconds:,.4g}", f"{then.memory_bytes / 1e6:,.4g}")
    p99 = "-" if then.p99_ms is None else f"{then.p99_ms:.1f}"
    measured = "-" if step.measured is None else f"{step.measured:+.2%}"
    measured += "" if step.measured_interval is None else f" {percent(step.measured_interval)}"
    gains = (f"{step.relative:+.2%}", interval, measured)
    return (step.name, *gains, *costs, p99, _per(step, "flops_per_item"), _per(step, "training_seconds"), note)


def _per(step: Step, cost: str) -> str:
    found = step.per(cost)
    return "free" if found is None else f"{found:+.5f}"


def _curve_cells(axis: Axis) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for scale, fits in axis.curves.items():
        for place, fit in enumerate(fits):
            parameters = ", ".join(_parameter(fit, number) for number in range(len(fit.form.parameters)))
            rows.append((axis.name, scale, fit.form.name, parameters, _error(fit), "chosen" if place == 0 else ""))
    return rows


def _parameter(fit: Fit, number: int) -> str:
    found = f"{fit.form.parameters[number]} {fit.values[number]:.5g}"
    if fit.replicates is None:
        return found
    low, high = interval_of(fit.replicates[:, number])
    return f"{found} [{low:.4g}, {high:.4g}]"


def _error(fit: Fit) -> str:
    if fit.last_out is None:
        return "unchecked"
    if fit.last_out.interval is None:
        return f"{fit.last_out.error:+.5f}"
    low, high = fit.last_out.interval
    return f"{fit.last_out.error:+.5f} [{low:+.5f}, {high:+.5f}] {'holds' if fit.last_out.held else 'misses'}"


def _additivity(found: Sequence[Interaction]) -> str:
    if not found:
        return "No factorial was measured: that gains of several steps add up is an assumption."
    head = ("factors", "alone", "sum", "together", "interaction", "95 %", "")
    return _table(head, [_interaction_cells(one) for one in found])


def _interaction_cells(found: Interaction) -> tuple[str, ...]:
    alone = ", ".join(f"{value:+.5f}" for value in found.alone)
    interval = "-" if found.interval is None else f"[{found.interval[0]:+.5f}, {found.interval[1]:+.5f}]"
    totals = (f"{sum(found.alone):+.5f}", f"{found.together:+.5f}", f"{found.interaction:+.5f}")
    return (" + ".join(found.factors), alone, *totals, interval, found.verdict)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
