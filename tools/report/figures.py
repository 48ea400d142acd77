"""The report's plots, each drawn to an SVG text that goes into the page as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.validation.figures import SERIES, STYLE, svg

MODEL = "#1f6feb"
CEILING = "#c77d0a"
GREY = "#7b8794"

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_DELAY_TICKS = {
    "1 s": _SECOND,
    "10 s": 10 * _SECOND,
    "1 min": _MINUTE,
    "10 min": 10 * _MINUTE,
    "1 h": _HOUR,
    "6 h": 6 * _HOUR,
    "1 d": _DAY,
    "3 d": 3 * _DAY,
    "14 d": 14 * _DAY,
}


@dataclass(frozen=True)
class Score:
    """A ranking's metric: `interval` is its confidence interval, `kind` one of model, baseline, ceiling."""

    label: str
    value: float
    interval: tuple[float, float] | None
    kind: str


@dataclass(frozen=True)
class Curve:
    """A line of points; `low` and `high` are the edges of its band."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def scores_figure(tasks: Mapping[str, Sequence[Score]], metric: str = "mAP") -> str:
    """One panel per task: the model, its baselines and the ceiling as dots with their intervals."""
    rows = max(len(scores) for scores in tasks.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 0.75 + len(tasks) * (0.55 + 0.34 * rows)), layout="constrained")
        axes = figure.subplots(len(tasks), 1, squeeze=False)[:, 0]
        for ax, (task, scores) in zip(axes, tasks.items(), strict=True):
            ax.set_title(f"{task}: {metric}")
            _draw_scores(ax, scores)
        return svg(figure)


def _draw_scores(ax: Axes, scores: Sequence[Score]) -> None:
    colours = {"model": MODEL, "baseline": GREY, "ceiling": CEILING}
    for row, score in enumerate(scores):
        colour = colours[score.kind]
        if score.interval is not None:
            ax.plot(score.interval, [row, row], color=colour, linewidth=5, alpha=0.3, solid_capstyle="round")
        marker = "D" if score.kind == "ceiling" else "o"
        ax.plot([score.value], [row], marker, color=colour, markersize=8)
        weight = "bold" if score.kind == "model" else "normal"
        right = max([score.value, *(score.interval or ())])
        ax.annotate(f"{score.value:.4f}", (right, row), (8, 0), textcoords="offset points", va="center", weight=weight)
        if score.kind == "ceiling":
            ax.axvline(score.value, color=colour, linewidth=1, linestyle="--", alpha=0.6, zorder=0)
    ax.set_yticks(range(len(scores)), [score.label for score in scores])
    ax.set_ylim(len(scores) - 0.4, -0.6)
    ax.margins(x=0.14)
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def lines_figure(panels: Mapping[str, Mapping[str, Curve]], x_label: str) -> str:
    """Panels side by side (title -> name -> curve) over a common kind of x axis, such as training steps."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, curves) in zip(axes, panels.items(), strict=True):
            ax.set_title(title)
            for colour, (name, curve) in zip(_colours(len(curves)), curves.items(), strict=True):
                few = len(curve.x) <= 40
                ax.plot(curve.x, curve.y, label=name, color=colour, marker="o" if few else None, markersize=4)
                if curve.low is not None and curve.high is not None:
                    ax.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
            ax.set_xlabel(x_label)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.grid(axis="y")
        named = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        if max(len(curves) for curves in panels.values()) > 1:
            figure.legend(named.values(), named, loc="outside lower center", ncols=len(named))
        return svg(figure)


def delay_figure(delays: Mapping[str, np.ndarray], windows: Mapping[str, int]) -> str:
    """Share of a task's engagements that had happened by a time after the impression (ms, log scale)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.2), layout="constrained")
        ax = figure.subplots()
        for colour, (task, values) in zip(_colours(len(delays)), delays.items(), strict=True):
            ordered = np.maximum(np.sort(values), 100)
            ax.plot(ordered, np.arange(1, len(ordered) + 1) / max(1, len(ordered)), color=colour, label=task)
            if windows[task]:
                ax.axvline(windows[task], color=colour, linestyle="--", linewidth=1, alpha=0.7)
        longest = max([_MINUTE, *windows.values()])
        ticks = {name: at for name, at in _DELAY_TICKS.items() if at <= 1.5 * longest}
        ax.set_xscale("log")
        ax.set_xticks(list(ticks.values()), list(ticks))
        ax.minorticks_off()
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("time from impression to engagement (dashed: end of the attribution window)")
        ax.set_ylabel("share of engagements")
        ax.grid()
        ax.legend()
        return svg(figure)


def lengths_figure(sizes: Mapping[str, np.ndarray]) -> str:
    """Share of the lists of each split by their number of items."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 2.8), layout="constrained")
        ax = figure.subplots()
        longest = max(int(values.max()) for values in sizes.values())
        bins = np.arange(0.5, longest + 1.5, max(1, round(longest / 60))).tolist()
        for colour, (split, values) in zip(_colours(len(sizes)), sizes.items(), strict=True):
            weights = np.full(len(values), 1 / len(values))
            ax.hist(values, bins=bins, weights=weights, histtype="stepfilled", alpha=0.25, color=colour)
            ax.hist(values, bins=bins, weights=weights, histtype="step", color=colour, label=split, linewidth=1.5)
        ax.set_xlabel("items in a list")
        ax.set_ylabel("share of lists")
        ax.grid(axis="y")
        ax.legend()
        return svg(figure)


def _colours(count: int) -> list[str]:
    return [SERIES[index % len(SERIES)] for index in range(count)]


