"""Plots of load tests, tuning, simulations and soaks; PNG or SVG by the path's ending."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from pipelines.validation.figures import SOFT, STYLE, WIDTH, colour_of, named_below

Line = Sequence[tuple[float, float]]


def save(path: Path, height: float, panels: Sequence[Callable[[Axes], None]]) -> None:
    """A figure of panels side by side, with one legend below where there are several series."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=150)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, draw in zip(axes, panels, strict=True):
            draw(ax)
            ax.grid(axis="y")
            ax.set_axisbelow(True)
        named_below(figure, axes)
        figure.savefig(path)


def latency_plot(path: Path, lines: Mapping[str, Line], title: str, limits_ms: Sequence[float] = ()) -> None:
    """Latency in ms, on a logarithmic axis, over the arrival rate, a line per quantile or server; infinite points are left out."""

    def draw(ax: Axes) -> None:
        for place, (name, points) in enumerate(lines.items()):
            shown = [point for point in sorted(points) if point[1] < float("inf")]
            ax.plot([x for x, _ in shown], [y for _, y in shown], "o-", color=colour_of(place), markersize=4, linewidth=1.6, label=name)
        for limit in limits_ms:
            _mark(ax, limit)
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 20 * low else tuple(range(1, 10))))
        ax.minorticks_off()
        ax.set_title(title)
        ax.set_xlabel("arrivals, requests/s")
        ax.set_ylabel("latency, ms (logarithmic)")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")

    save(path, 3.6, [draw])


def _mark(ax: Axes, limit: float) -> None:
    ax.axhline(limit, color=SOFT, linestyle="--", linewidth=1)
    ax.text(0.995, limit, f"{limit:g} ms", transform=ax.get_yaxis_transform(), ha="right", va="bottom", color=SOFT, size=9)


def peak_plot(path: Path, lines: Mapping[str, Line], title: str, ylabel: str = "peak items/s") -> None:
    """A line per name over the batch timeout, such as the peak within each limit."""

    def draw(ax: Axes) -> None:
        for place, (name, points) in enumerate(lines.items()):
            x, y = zip(*sorted(points), strict=True)
            style = (0, (4, 3)) if place else "solid"  # lines may lie upon each other
            ax.plot(x, y, marker="o", linestyle=style, color=colour_of(place), markersize=6 - 2 * min(place, 2), linewidth=1.6, label=name)
        ax.set_ylim(bottom=0)
        ax.set_title(title)
        ax.set_xlabel("batch timeout, ms")
        ax.set_ylabel(ylabel)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    save(path, 3.4, [draw])


def bar_plot(path: Path, bars: Mapping[str, tuple[float, float, float]], title: str, xlabel: str) -> None:
    """A bar per name, longest on top, with a line from the least to the greatest value it may have: (value, least, greatest)."""
    ordered = sorted(bars.items(), key=lambda bar: bar[1][0])

    def draw(ax: Axes) -> None:
        for place, (_, (value, least, most)) in enumerate(ordered):
            ax.barh(place, value, height=0.6, color=colour_of(0), alpha=0.85)
            ax.plot([least, most], [place, place], color=SOFT, linewidth=1.6)
        ax.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        ax.set_title(title)
        ax.set_xlabel(xlabel)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        ax.grid(axis="x")

    save(path, 1.2 + 0.3 * len(ordered), [draw])
