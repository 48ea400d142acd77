"""A study's plots, each an SVG text that goes into the page as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from pipelines.validation.figures import SOFT, STYLE, WIDTH, colour_of, svg


@dataclasses.dataclass(frozen=True)
class Line:
    """Points with 95 % intervals, and the published ones beside (drawn dashed), where there are any."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    paper: Sequence[float] = ()


def curves(panels: Mapping[str, Mapping[str, Line]], x_label: str, y_label: str, joined: bool = True) -> str:
    """A panel per title, its lines over a logarithmic x axis; all panels have one y axis."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 3.0 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for ax, (title, lines) in zip(axes, panels.items(), strict=False):
            ax.set_title(title)
            for place, (name, line) in enumerate(lines.items()):
                _draw(ax, line, name, colour_of(place), joined)
            _ticks(ax, [x for line in lines.values() for x in line.x])
            ax.set_xlabel(x_label)
            ax.axhline(0, color=SOFT, linewidth=0.8)
            ax.grid(axis="y")
            ax.legend(fontsize=8)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax in axes[::columns]:
            ax.set_ylabel(y_label)
        return svg(figure)


def _draw(ax: Axes, line: Line, name: str, colour: str, joined: bool) -> None:
    reach = np.abs(np.array([line.low, line.high]) - np.array(line.y))
    style = "o-" if joined else "o"
    ax.errorbar(line.x, line.y, yerr=reach, fmt=style, markersize=4, linewidth=1.4, capsize=2, color=colour, label=name)
    if len(line.paper):
        ax.plot(line.x, line.paper, "--", color=colour, linewidth=1, alpha=0.7)


def _ticks(ax: Axes, values: Sequence[float]) -> None:
    """At most six plain numbers on a logarithmic axis of base 2."""
    ax.set_xscale("log", base=2)
    known = np.unique(values)
    ax.set_xticks(known[np.unique(np.linspace(0, len(known) - 1, min(6, len(known))).round().astype(int))])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def claims(names: Sequence[str], values: Sequence[float], intervals: Sequence[tuple[float, float]], margin: float, x_label: str) -> str:
    """A row per claim: what was found with its interval; grey: the margin of equivalence."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + 0.33 * len(names)), layout="constrained")
        ax = figure.subplots()
        ax.axvspan(-margin, margin, color="#d9dee4", alpha=0.6, linewidth=0, zorder=0)
        ends = np.array(intervals).T
        reach = np.abs(ends - np.array(values))
        ax.errorbar(values, range(len(names)), xerr=reach, fmt="o", markersize=4.5, capsize=2.5, color=colour_of(0))
        ax.axvline(0, color=SOFT, linewidth=1)
        ax.set_yticks(range(len(names)), list(names))
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlabel(x_label)
        ax.grid(axis="x")
        return svg(figure)
