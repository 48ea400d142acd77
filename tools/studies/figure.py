"""A study's figure: each system's difference to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from pipelines.validation.figures import SOFT, STYLE, WIDTH, colour_of
from tools.comparison.table import Row


def write_figure(rows: Sequence[Row], path: Path, title: str) -> None:
    """A line per system, the greatest difference on top, with its 95 % interval; as PNG or SVG by the path's ending."""
    rows = sorted(rows, key=lambda row: row.found.difference)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.34 * len(rows)), layout="constrained", dpi=150)
        ax = figure.subplots()
        for place, row in enumerate(rows):
            reach = [[abs(end - row.found.difference)] for end in row.found.interval]
            ax.errorbar(row.found.difference, place, xerr=reach, fmt="o", markersize=4.5, linewidth=1.6, capsize=2.5, color=colour_of(0))
        ax.axvline(0, color=SOFT, linewidth=1)
        ax.set_yticks(range(len(rows)), [row.system for row in rows])
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_title(title)
        ax.set_xlabel(f"difference to {rows[0].reference}, 95 % interval over lists and seeds")
        ax.grid(axis="x")
        ax.set_axisbelow(True)
        figure.savefig(path)
