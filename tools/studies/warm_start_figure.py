"""The warm-start study's figure: the arms of the first launch, and the chain of launches, as differences to training from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.validation.figures import FAINT, SOFT, STYLE, WIDTH, colour_of, named_below
from tools.comparison.table import Row


def write_figure(arms: Mapping[str, Row], chain: Mapping[str, Sequence[Row]], margin: float, path: Path) -> None:
    """Left a line per arm by its label, right a line per kind of chain by its label over the launches; grey: within the margin."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained", dpi=150)
        left, right = figure.subplots(1, 2, width_ratios=(1.05, 1))
        left.axvspan(-margin, margin, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
        right.axhspan(-margin, margin, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
        _draw_arms(left, arms)
        _draw_chain(right, chain)
        left.set_xlabel(f"difference in mAP to scratch, 95 % interval; grey: within ±{margin:g}")
        named_below(figure, [right])
        figure.savefig(path)


def _reach(row: Row) -> list[float]:
    return [abs(end - row.found.difference) for end in row.found.interval]


def _draw_arms(ax: Axes, arms: Mapping[str, Row]) -> None:
    for place, row in enumerate(arms.values()):
        reach = [[side] for side in _reach(row)]
        ax.errorbar(row.found.difference, place, xerr=reach, fmt="o", markersize=4.5, linewidth=1.6, capsize=2.5, color=colour_of(0))
    ax.axvline(0, color=SOFT, linewidth=1)
    ax.set_yticks(range(len(arms)), [f"{label}\n{row.found.difference:+.4f}" for label, row in arms.items()])
    ax.set_ylim(len(arms) - 0.5, -0.6)
    ax.margins(x=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_title("One launch")
    ax.grid(axis="x")
    ax.set_axisbelow(True)


def _draw_chain(ax: Axes, chain: Mapping[str, Sequence[Row]]) -> None:
    for number, (label, rows) in enumerate(chain.items()):
        places = [launch + 0.12 * (number - (len(chain) - 1) / 2) for launch in range(1, len(rows) + 1)]
        reach = [list(side) for side in zip(*map(_reach, rows), strict=True)]
        values, colour = [row.found.difference for row in rows], colour_of(number)
        ax.errorbar(places, values, yerr=reach, fmt="o-", markersize=4.5, linewidth=1.6, capsize=2.5, color=colour, label=label)
    ax.axhline(0, color=SOFT, linewidth=1)
    ax.set_xticks(range(1, max(map(len, chain.values())) + 1))
    ax.set_xlabel("launch")
    ax.set_ylabel("difference in mAP to scratch")
    ax.set_title("A chain of launches")
    ax.grid(axis="y")
    ax.set_axisbelow(True)
