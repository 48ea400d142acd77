"""The page's plots by day: coverage and drift as maps of features by days, and the course of the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipelines.validation.coverage import present_share, unseen_share
from pipelines.validation.figures import SOFT, STYLE, WIDTH, colour_of, day_ticks, named_below, svg

UNSEEN_COLOUR = "#f3c27a"
_ABSENT = LinearSegmentedColormap.from_list("absent", ["#dbe9f9", "#7fb0e8", "#1b4f9c", "#0b2447"])

Columns = list[tuple[str, str]]
"""(split, day) of each column of a map."""


def _bounds(ax: Axes, columns: Columns, rows: int) -> None:
    """Names the splits above a map and draws lines between them."""
    splits = [split for split, _ in columns]
    for split in dict.fromkeys(splits):
        first, last = splits.index(split), len(splits) - splits[::-1].index(split)
        ax.text((first + last - 1) / 2, -0.75, split, ha="center", va="bottom", fontsize=9, color=SOFT, clip_on=False)
        if first:
            ax.plot([first - 0.5] * 2, [-0.7, rows - 0.5], color=SOFT, linewidth=1.2, clip_on=False)
    day_ticks(ax, [day for _, day in columns])


def _map(ax: Axes, values: np.ndarray, names: Sequence[str], columns: Columns, cmap: Any, top: float) -> Any:
    image = ax.imshow(values, aspect="auto", cmap=cmap, vmin=0, vmax=top, interpolation="nearest")
    ax.set_yticks(range(len(names)), names, fontsize=8.5)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0)
    _bounds(ax, columns, len(names))
    return image


def coverage_figure(splits: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]) -> str:
    """Share of present values by feature (rows) and day (columns of all splits): pale is all; mostly unseen has a colour of its own."""
    columns = [(split, day) for split, days in splits.items() for day in days]
    names = list(next(iter(next(iter(splits.values())).values())))
    cells = [[dict(splits[split][day][name]) for split, day in columns] for name in names]
    absent = np.array([[1 - present_share(cell) for cell in row] for row in cells])
    unseen = np.array([[unseen_share(cell) > 0.5 for cell in row] for row in cells])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.2 * len(names)), layout="constrained")
        ax = figure.subplots()
        image = _map(ax, absent, names, columns, _ABSENT, 1.0)
        ax.imshow(
            np.where(unseen, 1.0, np.nan), aspect="auto", cmap=ListedColormap([UNSEEN_COLOUR]), interpolation="nearest"
        )
        bar = figure.colorbar(image, ax=ax, shrink=min(1.0, 5 / len(names) + 0.3), pad=0.01)
        bar.set_ticks([0, 0.5, 1], labels=["100 %", "50 %", "0 %"])
        bar.set_label("values that are there", fontsize=8.5)
        bar.outline.set_visible(False)
        figure.legend(
            [Patch(color=UNSEEN_COLOUR)], ["unseen (not built, or before its launch)"], loc="outside lower center"
        )
        return svg(figure)


def drift_figure(rows: Sequence[Mapping[str, Any]], columns: Columns, threshold: float, shown: int = 30) -> str:
    """Divergence above chance of each day from the other days of its split, of the features that drift most."""
    places = {column: place for place, column in enumerate(columns)}
    features = dict.fromkeys(row["feature"] for row in sorted(rows, key=lambda row: row["expected"] - row["js"]))
    names = list(features)[:shown]
    values = np.full((len(names), len(columns)), np.nan)
    for row in rows:
        if row["feature"] in names:
            values[names.index(row["feature"]), places[row["split"], row["first"]]] = max(
                row["js"] - row["expected"], 0
            )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.2 + 0.2 * len(names)), layout="constrained")
        ax = figure.subplots()
        image = _map(ax, values, names, columns, "Oranges", max(4 * threshold, 1e-9))
        bar = figure.colorbar(image, ax=ax, shrink=min(1.0, 5 / len(names) + 0.3), pad=0.01, extend="max")
        bar.set_label("bits above chance", fontsize=8.5)
        bar.outline.set_visible(False)
        return svg(figure)


def courses_figure(splits: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Sequence[str]) -> str:
    """Small panels, one per numerical feature: median and the range of 90 % of the values by day."""
    days = sorted({day for found in splits.values() for day in found})
    across = 4
    down = -(-len(names) // across)
    with matplotlib.rc_context(STYLE | {"axes.titlesize": 8.5, "axes.titleweight": "normal", "font.size": 7.5}):
        figure = Figure(figsize=(WIDTH, 0.6 + 1.35 * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
        for ax, name in zip(axes, names, strict=False):
            for place, (split, found) in enumerate(splits.items()):
                rows = [(days.index(day), found[day][name]["numbers"]) for day in found]
                points = [(x, row["p50"], row["p05"], row["p95"]) for x, row in rows if row["p50"] is not None]
                if points:
                    x, middle, low, high = np.array(points, np.float64).T
                    ax.plot(x, middle, color=colour_of(place), linewidth=1.3, marker="o", markersize=2, label=split)
                    if len(points) > 1:
                        ax.fill_between(x, low, high, color=colour_of(place), alpha=0.18, linewidth=0)
                    else:
                        ax.vlines(x, low, high, color=colour_of(place), alpha=0.3, linewidth=3)
            ax.set_title(name)
            ax.set_xlim(-0.5, len(days) - 0.5)
            ax.set_xticks(
                [0, len(days) - 1] if len(days) > 1 else [0],
                [days[0][5:], days[-1][5:]] if len(days) > 1 else [days[0][5:]],
            )
            ax.margins(y=0.15)
            ax.grid(axis="y")
        for ax in axes[len(names) :]:
            ax.set_visible(False)
        named_below(figure, list(axes[: len(names)]))
        return svg(figure)
