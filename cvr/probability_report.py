"""A run's probabilities judged on a scored split: before and after its calibration, as summary, text and reliability plot."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvr.calibration import Calibration
from cvr.links import CONDITIONS, Link, conditioned
from cvr.reliability import Reliability, reliability
from cvr.scoring import ScoredLists

FIGURE_FILE = "reliability.svg"
STAGES = {"before": "#c77d0a", "after": "#1f6feb"}
"""A probability as the loss makes it, and as the calibration does; with the colour of each."""
_STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "grid.color": "#d9dee4",
    "legend.frameon": False,
    "svg.hashsalt": "cvr",
}


@dataclasses.dataclass(frozen=True)
class Meaning:
    """How a run's scores become probabilities: the link of its loss, which lists they are about, and its calibration, if it has one."""

    link: Link
    condition: str
    calibration: Calibration | None = None

    def probabilities(self, task: str, scores: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """By stage, `before` and, with a calibration, `after`: scores `[N]` of lists laid one after the other -> `[N]`."""
        found = {"before": self.link.probabilities(scores, lengths)}
        if self.calibration:
            found["after"] = self.calibration.probabilities(task, scores, lengths)
        return found


def judge(
    scored: ScoredLists, tasks: tuple[str, ...], primary: str, meaning: Meaning, replicates: int
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Reliability]]]:
    """(summary by task, curves by task and stage) on those lists that the probabilities are about; a task of one label has NaN slopes."""
    about = conditioned(scored, meaning.condition, tasks.index(primary))
    summaries, curves = {}, {}
    for place, task in enumerate(tasks):
        stages = meaning.probabilities(task, about.scores[:, place], about.lengths)
        curves[task] = {name: reliability(about.labels[:, place], p, about.lengths, replicates) for name, p in stages.items()}
        head = {"about": CONDITIONS[meaning.condition], "lists": len(about.lengths), "items": len(about.item)}
        summaries[task] = {**head, **{name: curve.summary for name, curve in curves[task].items()}}
    return summaries, curves


def text(summaries: dict[str, dict[str, Any]]) -> str:
    """The summaries for a terminal: a row per task and stage."""
    first = next(iter(summaries.values()))
    lines = [f"{first['about']}: {first['lists']:,} lists, {first['items']:,} items"]
    heads = ("ECE [95 %] (if calibrated)", "slope", "intercept", "Brier", "log loss", "predicted", "observed")
    lines.append(f"  {'':<20}{heads[0]:^34}" + "".join(f"{head:>11}" for head in heads[1:]))
    for task, summary in summaries.items():
        for stage in STAGES:
            if stage in summary:
                s = summary[stage]
                ece = f"{s['ece']:.4f} [{s['ece_ci'][0]:.4f}, {s['ece_ci'][1]:.4f}] ({s['ece_if_calibrated']:.4f})"
                names = ("slope", "intercept", "brier", "log_loss", "mean_predicted", "observed")
                lines.append(f"  {task + ' ' + stage:<20}{ece:^34}" + "".join(f"{s[name]:>11.4f}" for name in names))
    return "\n".join(lines)


def write_figure(path: Path, curves: dict[str, dict[str, Reliability]]) -> None:
    """A panel per task: observed share against mean prediction of each bin, with intervals, on logarithmic axes."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.5 * len(curves), 4.6), layout="constrained")
        for ax, (task, stages) in zip(np.ravel(figure.subplots(1, len(curves), squeeze=False)), curves.items(), strict=True):
            ax.set_title(task)
            _draw(ax, stages)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw(ax: Axes, stages: dict[str, Reliability]) -> None:
    shown = [v for curve in stages.values() for v in (curve.predicted, curve.observed[curve.observed > 0])]
    lowest, highest = min(v.min(initial=1.0) for v in shown) / 1.5, min(1.0, 1.5 * max(v.max(initial=0.0) for v in shown))
    ax.plot([lowest, highest], [lowest, highest], color="#7b8794", linewidth=1, linestyle="--", zorder=0)
    for name, curve in stages.items():
        colour, none = STAGES[name], curve.observed <= 0
        at = np.where(none, lowest, curve.observed)
        down, up = at - np.clip(curve.low, lowest, at), np.maximum(curve.high - at, 0.0)
        ax.errorbar(curve.predicted, at, yerr=[down, up], color=colour, elinewidth=1, linewidth=1, alpha=0.5)
        ax.plot(curve.predicted[~none], at[~none], "o", color=colour, markersize=4.5, label=f"{name} (ECE {curve.summary['ece']:.4f})")
        ax.plot(curve.predicted[none], at[none], "v", color=colour, markersize=6, markerfacecolor="white")
    ax.set(xscale="log", yscale="log", xlim=(lowest, highest), ylim=(lowest, highest), xlabel="predicted", ylabel="observed")
    ax.grid(True, linewidth=0.6)
    ax.set_box_aspect(1)
    ax.legend(loc="upper left").set_in_layout(False)
