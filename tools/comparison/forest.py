"""The forest plot: a row per comparison, the difference and its 95 % interval, and the margin of equivalence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.validation.figures import FAINT, SOFT, STYLE, WIDTH, colour_of, named_below
from tools.comparison.table import Row


def write_forest(rows: Sequence[Row], path: Path, title: str, margin: float | None) -> None:
    """Draws the rows of one task and metric, overall ones first, in groups of a slicing; as PNG or SVG by the path's ending."""
    systems = list(dict.fromkeys(row.system for row in rows))
    groups = list(dict.fromkeys((row.slicing, row.slice) for row in rows))
    places, headings = _layout(groups)
    height = max(places.values()) + 1.0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.34 * height + (0.3 if len(systems) > 1 else 0)), layout="constrained", dpi=150)
        ax = figure.subplots()
        _draw(ax, rows, systems, places)
        ax.axvline(0, color=SOFT, linewidth=1)
        if margin is not None:
            ax.axvspan(-margin, margin, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
        names = {place: f"{value} ({_lists(rows, slicing, value):,})" for (slicing, value), place in places.items()}
        names[places[groups[0]]] = f"all lists ({_lists(rows, *groups[0]):,})"
        ax.set_yticks([*names], [*names.values()])
        for slicing, place in headings.items():
            ax.text(0, place, f"{slicing} ", transform=ax.get_yaxis_transform(), ha="right", va="center", weight="bold", size=9)
        ax.set_ylim(height - 0.4, -0.6)
        ax.set_title(title)
        ax.set_xlabel(f"difference to {rows[0].reference}, 95 % interval" + (f"; grey: within ±{margin:g}" if margin is not None else ""))
        ax.grid(axis="x")
        ax.set_axisbelow(True)
        named_below(figure, [ax])
        figure.savefig(path)


def _layout(groups: Sequence[tuple[str, str]]) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Places from the top of each group, and of the heading of each slicing."""
    places: dict[tuple[str, str], float] = {}
    headings: dict[str, float] = {}
    place = 0.0
    for slicing, value in groups:
        if slicing and slicing not in headings:
            headings[slicing], place = place + 0.2, place + 1.2
        places[slicing, value] = place
        place += 1
    return places, headings


def _draw(ax: Axes, rows: Sequence[Row], systems: Sequence[str], places: dict[tuple[str, str], float]) -> None:
    """Intervals of the systems beside each other within a row."""
    for number, system in enumerate(systems):
        own = [row for row in rows if row.system == system]
        offset = 0.5 * ((number + 0.5) / len(systems) - 0.5)
        y = [places[row.slicing, row.slice] + offset for row in own]
        x = [row.found.difference for row in own]
        reach = [[abs(row.found.interval[side] - row.found.difference) for row in own] for side in (0, 1)]
        ax.errorbar(x, y, xerr=reach, fmt="o", markersize=4.5, linewidth=1.6, capsize=2.5, color=colour_of(number), label=system)


def _lists(rows: Sequence[Row], slicing: str, value: str) -> int:
    return next(row.found.lists for row in rows if (row.slicing, row.slice) == (slicing, value))
