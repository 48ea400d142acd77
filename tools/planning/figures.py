"""Plots of a plan: curves by axis, the Pareto fronts, and the steps' gains."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from pipelines.validation.figures import INK, SOFT, STYLE, WIDTH, colour_of, named_below
from tools.planning.axes import Axis
from tools.planning.pareto import Point, front
from tools.planning.steps import REACH, Step

_COLUMNS = 3


def write_curves(axes: Sequence[Axis], path: Path, metric: str) -> None:
    """A panel per axis: gains over the base with paired 95 % intervals, and the chosen curve, dashed beyond the measured range."""
    rows = math.ceil(len(axes) / _COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9 * rows + 0.3), layout="constrained", dpi=150)
        panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
        for panel, axis in zip(panels, axes, strict=False):
            _draw_axis(panel, axis)
        for panel in panels[len(axes) :]:
            panel.set_visible(False)
        for panel in panels[::_COLUMNS]:
            panel.set_ylabel(f"{metric}, less the base's")
        named_below(figure, list(panels[:1]))
        figure.savefig(path)


def _draw_axis(panel: Axes, axis: Axis) -> None:
    top, base, bases = float(axis.levels[-1]), axis.cells.means[axis.base], axis.cells.replicates
    for reach, dash in ((np.geomspace(axis.levels[0], top, 60), "-"), (np.geomspace(top, REACH * top, 20), "--")):
        value, drawn = axis.fit.at(reach)
        panel.plot(reach, value - base, dash, color=colour_of(0), linewidth=1.5, label="curve" if dash == "-" else "extrapolated")
        if drawn is not None and bases is not None:
            low, high = np.quantile(drawn - bases[:, axis.base, None], [0.025, 0.975], axis=0)
            panel.fill_between(reach, low, high, color=colour_of(0), alpha=0.15, linewidth=0)
    reach_of_means = None
    gains = axis.cells.means - base
    if bases is not None:
        low, high = np.quantile(bases - bases[:, axis.base, None], [0.025, 0.975], axis=0)
        reach_of_means = np.abs(np.stack([gains - low, high - gains]))
    style: dict[str, Any] = {"fmt": "o", "color": INK, "markersize": 4, "capsize": 2, "linewidth": 1}
    panel.errorbar(axis.levels, gains, yerr=reach_of_means, label="measured", **style)
    panel.set_xscale("log", base=2)
    panel.set_xticks([*axis.levels, REACH * top], [*(f"{level:g}" for level in axis.levels), f"{REACH * top:g}"])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_title(axis.name)
    panel.set_xlabel(axis.fit.form.name)
    panel.grid(axis="y")


def write_fronts(points: Sequence[Point], path: Path, metric: str) -> None:
    """The metric against FLOPs per item and against training cost, the front as a line, its configurations numbered and named."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained", dpi=150)
        panels = figure.subplots(1, 2, sharey=True)
        for panel, cost in zip(panels, ("flops_per_item", "training_seconds"), strict=True):
            _draw_front(panel, points, cost)
        panels[0].set_ylabel(metric)
        figure.savefig(path)


def _draw_front(panel: Axes, points: Sequence[Point], cost: str) -> None:
    costs, values = np.array([getattr(point, cost) for point in points]), np.array([point.value for point in points])
    on = front(costs, values)
    order = np.flatnonzero(on)[np.argsort(costs[on])]
    panel.plot(costs[~on], values[~on], "o", color=SOFT, markersize=4, alpha=0.7)
    panel.plot(costs[order], values[order], "o", color=colour_of(0), markersize=5)
    panel.step([*costs[order], costs.max()], [*values[order], values[order[-1]]], where="post", color=colour_of(0), linewidth=1.2)
    if np.all(costs > 0) and costs.max() > 1.5 * costs.min():
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    for number, place in enumerate(order, start=1):
        panel.annotate(str(number), (costs[place], values[place]), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8)
    named = ", ".join(f"{number} {points[place].arm}".replace(" ", "\u00a0") for number, place in enumerate(order, start=1))
    wrapped = textwrap.fill(named, 54, break_long_words=False)
    panel.set_xlabel(f"{cost.replace('_', ' ').replace('flops', 'FLOPs')}\n{wrapped}", fontsize=8.5)
    panel.margins(x=0.08, y=0.1)
    panel.grid(axis="both")


def write_steps(steps: Sequence[Step], path: Path, metric: str) -> None:
    """A line per step in the plan's order, recommended ones in colour, relative gain with its 95 % interval."""
    shown = [step for step in steps if not math.isnan(step.relative)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.2 + 0.34 * max(1, len(shown))), layout="constrained", dpi=150)
        ax = figure.subplots()
        for place, step in enumerate(shown):
            low, high = step.relative_interval or (step.relative, step.relative)
            colour = SOFT if step.against else colour_of(0)
            reach = [[abs(100 * (step.relative - low))], [abs(100 * (high - step.relative))]]
            hollow: dict[str, Any] = {"markerfacecolor": "white"} if step.extrapolated else {}
            ax.errorbar(100 * step.relative, place, xerr=reach, fmt="o", markersize=5, linewidth=1.6, capsize=2.5, color=colour, **hollow)
        ax.axvline(0, color=SOFT, linewidth=1)
        ax.set_yticks(range(len(shown)), [step.name for step in shown])
        ax.set_ylim(max(1, len(shown)) - 0.4, -0.6)
        ax.set_xlabel(f"gain in {metric}, % of the base; blue: may be taken, grey: not; hollow: extrapolated")
        ax.grid(axis="x")
        ax.set_axisbelow(True)
        figure.savefig(path)
