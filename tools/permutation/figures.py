"""Plots: importances with their intervals, and interactions of families as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.validation.figures import INK, SOFT, STYLE, WIDTH, colour_of, named_below
from tools.permutation.results import Double, Single
from tools.permutation.shuffles import KINDS

MOST = 25
"""Bars of a plot; the rest is in the table."""


def write_bars(rows: Sequence[Single], base: float, path: Path, title: str) -> None:
    """A line per feature or family, the most important on top, a bar per kind of shuffle; as PNG or SVG by the path's ending."""
    shown = rows[:MOST]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.4 + 0.32 * len(shown)), layout="constrained", dpi=150)
        ax = figure.subplots()
        for number, kind in enumerate(KINDS):
            _draw_kind(ax, shown, kind, base, number)
        ax.axvline(0, color=SOFT, linewidth=1)
        ax.set_yticks(range(len(shown)), [row.name for row in shown])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        rest = f"; {len(rows) - len(shown)} more in table.md" if len(rows) > len(shown) else ""
        ax.set_title(title)
        ax.set_xlabel(f"drop of mAP by shuffling, % of {base:.4f}, 95 % interval{rest}")
        ax.grid(axis="x")
        ax.set_axisbelow(True)
        named_below(figure, [ax])
        figure.savefig(path)


def _draw_kind(ax: Axes, rows: Sequence[Single], kind: str, base: float, number: int) -> None:
    found = [(place, effect) for place, row in enumerate(rows) if (effect := row.effects[kind]) is not None]
    places = [place - 0.2 + 0.4 * number for place, _ in found]
    values = [100 * effect.value / base for _, effect in found]
    reach = [[100 * abs(effect.interval[side] - effect.value) / base for _, effect in found] for side in (0, 1)]
    style = {"elinewidth": 1.1, "capsize": 2, "ecolor": INK}
    ax.barh(places, values, 0.36, xerr=reach, color=colour_of(number), label=f"{kind} lists", error_kw=style)


def write_heat_map(rows: Sequence[Double], families: Sequence[str], base: float, path: Path, title: str) -> None:
    """Interactions of all pairs of families under one kind of shuffle; those that are not told from 0 in parentheses."""
    place = {name: number for number, name in enumerate(families)}
    known = [row for row in rows if set(row.names) <= set(place)]
    values = np.full((len(families), len(families)), np.nan)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.9 + 0.45 * len(families)), layout="constrained", dpi=150)
        ax = figure.subplots()
        for row in known:
            lower, upper = sorted((place[name] for name in row.names), reverse=True)
            values[lower, upper] = 100 * row.interaction.value / base
        limit = float(np.nanmax(np.abs(values))) or 1.0
        image = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        for row in known:
            lower, upper = sorted((place[name] for name in row.names), reverse=True)
            value = values[lower, upper]
            text = f"{value:+.2f}" if row.interaction.clear else f"({value:+.2f})"
            colour = "#ffffff" if abs(value) > 0.6 * limit else INK
            ax.text(upper, lower, text, ha="center", va="center", size=8, color=colour)
        ax.set_xticks(range(len(families)), families, rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(families)), families)
        ax.set_xlim(-0.5, len(families) - 1.5)
        ax.set_ylim(len(families) - 0.5, 0.5)
        ax.set_title(title)
        figure.colorbar(image, ax=ax, label="I(a) + I(b) - I2(a, b), % of mAP; (..): not told from 0")
        figure.savefig(path)
