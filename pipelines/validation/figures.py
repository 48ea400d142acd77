"""The page's plots of labels, lists and leaks, each drawn to an SVG text that goes into the page as it is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

INK, SOFT, FAINT = "#1f2933", "#52606d", "#d9dee4"
SERIES = ("#1f6feb", "#c77d0a", "#2a9d76", "#a2409a", "#d1495b", "#5c6b7a")
WIDTH = 9.2

STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#7b8794",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "legend.frameon": False,
    "svg.hashsalt": "cvr",
}
_DAY = 86_400_000
_TICKS = {
    "0.1 s": 100, "1 s": 1_000, "10 s": 10_000, "1 min": 60_000, "10 min": 600_000, "1 h": 3_600_000, "6 h": 21_600_000, "1 d": _DAY,
    "3 d": 3 * _DAY, "14 d": 14 * _DAY, "60 d": 60 * _DAY,
}  # fmt: skip
MIN_SHOWN = 50  # positions shown less often are left out of the plot


def colour_of(place: int) -> str:
    """The colour of the n-th series."""
    return SERIES[place % len(SERIES)]


def svg(figure: Figure) -> str:
    """The figure as an `<svg>` element, without the XML header; the same figure always gives the same text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def named_below(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all panels, where it hides nothing; none for a single series."""
    named = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if len(named) > 1:
        figure.legend(named.values(), named, loc="outside lower center", ncols=min(len(named), 6))


def day_ticks(ax: Axes, days: Sequence[str]) -> None:
    """Names at most eight of the days on the x axis, which counts them from 0."""
    places = range(0, len(days), max(1, -(-len(days) // 8)))
    crowded = len(places) > 4
    names = [days[place] for place in places]
    ax.set_xticks(
        places, names, rotation=30 if crowded else 0, ha="right" if crowded else "center", rotation_mode="anchor"
    )


def positions_figure(curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> str:
    """A panel per task: share of shown items with the label by position, a line with its Wilson band per split."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        axes = figure.subplots(1, len(curves), squeeze=False)[0]
        for ax, (task, splits) in zip(axes, curves.items(), strict=True):
            for place, (split, curve) in enumerate(splits.items()):
                shown = np.array(curve["shown"]) >= MIN_SHOWN
                x, y, low, high = (np.array(curve[name])[shown] for name in ("position", "rate", "low", "high"))
                ax.plot(x, y, "o-", color=colour_of(place), markersize=3.5, linewidth=1.4, label=split)
                ax.fill_between(x, low, high, color=colour_of(place), alpha=0.18, linewidth=0)
            ax.set_title(f"{task} by position")
            ax.set_xlabel("position")
            ax.set_ylim(bottom=0)
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            ax.grid(axis="y")
        named_below(figure, axes)
        return svg(figure)


def delays_figure(delays: Mapping[str, Mapping[str, Any]]) -> str:
    """Share of a task's credited engagements that had happened by a time after the impression, with the windows marked."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        ax = figure.subplots()
        for place, (task, found) in enumerate(delays.items()):
            edges, shares = np.array(found["curve"]).T
            x = np.concatenate([[100.0], np.maximum(edges, 100.0), [max(edges[-1], 100.0)]])
            ax.step(
                x,
                np.concatenate([[0.0], shares, [1.0]]),
                where="post",
                color=colour_of(place),
                label=task,
                linewidth=1.8,
            )
            if found["window"]:
                ax.axvline(
                    found["window"],
                    color=colour_of(place),
                    linestyle=(2 * place, (4, 4)),
                    linewidth=1.4,
                    label=f"window of {task}",
                )
        longest = max([60_000, *(max(found["window"], found["curve"][-1][0]) for found in delays.values())])
        ticks = {name: at for name, at in _TICKS.items() if at <= 1.6 * longest}
        ax.set_xscale("log")
        ax.set_xlim(80, 1.6 * longest)
        ax.set_xticks(list(ticks.values()), list(ticks))
        ax.minorticks_off()
        ax.set_ylim(0, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.set_xlabel("time from impression to engagement")
        ax.set_ylabel("engagements until then")
        ax.grid()
        named_below(figure, [ax])
        return svg(figure)


def lengths_figure(splits: Mapping[str, Mapping[str, int]]) -> str:
    """Share of a split's lists by number of items."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        ax = figure.subplots()
        longest = max(int(size) for sizes in splits.values() for size in sizes)
        edges = np.arange(0.5, longest + 1.5, max(1, round(longest / 60)))
        for place, (split, sizes) in enumerate(splits.items()):
            counts = np.array(list(sizes.values()), np.float64)
            shares, _ = np.histogram(
                [int(size) for size in sizes], bins=np.append(edges, edges[-1] + 60), weights=counts / counts.sum()
            )
            ax.stairs(shares[:-1], edges, color=colour_of(place), label=split, linewidth=1.6)
            ax.stairs(shares[:-1], edges, color=colour_of(place), fill=True, alpha=0.12)
        ax.set_xlabel("items in a list")
        ax.set_ylabel("share of lists")
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        ax.grid(axis="y")
        named_below(figure, [ax])
        return svg(figure)


def funnel_figure(splits: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> str:
    """A panel per task: labels per shown item by day; a line per split."""
    tasks = [row["task"] for row in next(iter(next(iter(splits.values())).values()))]
    days = sorted({day for found in splits.values() for day in found})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots(1, len(tasks), squeeze=False)[0]
        for index, (ax, task) in enumerate(zip(axes, tasks, strict=True)):
            for place, (split, found) in enumerate(splits.items()):
                rates = [found[day][index]["rate"] for day in found]
                marker = "o" if len(days) <= 60 else None
                ax.plot(
                    [days.index(day) for day in found],
                    rates,
                    marker=marker,
                    markersize=3.5,
                    color=colour_of(place),
                    label=split,
                )
            ax.set_title(f"{task} per item")
            highest = max(rows[index]["rate"] for found in splits.values() for rows in found.values())
            ax.set_ylim(0, 1.08 * highest or 1)
            ax.set_xlim(-0.5, len(days) - 0.5)
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            short = days if len(tasks) == 1 else [day[5:] for day in days]
            day_ticks(ax, short)
            ax.grid(axis="y")
        named_below(figure, axes)
        return svg(figure)


def leaks_figure(tasks: Mapping[str, Sequence[Mapping[str, Any]]], threshold: float, shown: int = 16) -> str:
    """A panel per task: AUC within lists of the best single features with their intervals, and the threshold that fails."""
    rows = max(min(len(scores), shown) for scores in tasks.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.25 * rows), layout="constrained")
        axes = figure.subplots(1, len(tasks), squeeze=False)[0]
        for ax, (task, scores) in zip(axes, tasks.items(), strict=True):
            for row, score in enumerate(scores[:shown]):
                colour = SERIES[4] if score["low"] > threshold else SERIES[0]
                ax.plot(
                    [score["low"], score["high"]],
                    [row, row],
                    color=colour,
                    linewidth=4,
                    alpha=0.3,
                    solid_capstyle="round",
                )
                ax.plot([score["auc"]], [row], "o", color=colour, markersize=5)
            ax.axvline(threshold, color=SERIES[4], linestyle="--", linewidth=1.2)
            ax.axvline(0.5, color=SOFT, linewidth=0.8)
            ax.set_title(task)
            ax.set_yticks(range(len(scores[:shown])), [score["feature"] for score in scores[:shown]], fontsize=8.5)
            ax.set_ylim(rows - 0.4, -0.6)
            ax.set_xlim(0.45, 1.01)
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}"))
            ax.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
            ax.grid(axis="x")
        return svg(figure)
