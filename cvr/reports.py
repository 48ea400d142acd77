"""Metrics of scored lists beside their baselines, as a summary and as one row per list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cvr.metrics import METRICS, Ranked, mean_interval, rank_metrics, tie_breaker
from cvr.scoring import ScoredLists


def rankings(scored: ScoredLists, place: int) -> dict[str, np.ndarray]:
    """Scores by name: the model's for task number `place`, and the baselines display order and popularity so far.

    Many items are equally popular, most with no engagement yet; those keep their display order. Lists that were built without popularity
    have none to compare with.
    """
    display_order = -scored.position.astype(np.float64)
    found = {"model": scored.scores[:, place], "display_order": display_order}
    if not np.isnan(scored.popularity).any():
        found["popularity"] = scored.popularity + display_order * 1e-6
    return found


def summarise(ranked: Ranked, seed: int = 0, replicates: int = 1000) -> dict[str, Any]:
    """Mean and 95 % bootstrap interval over lists of every metric: `{map: .., map_ci: [low, high], ..}`."""
    out: dict[str, Any] = {}
    for name in METRICS:
        mean, interval = mean_interval(getattr(ranked, name), seed, replicates)
        out[name], out[f"{name}_ci"] = mean, list(interval)
    return out


def evaluate_task(scored: ScoredLists, place: int, replicates: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """One task's summary (model's metrics and `baselines`), and its per-list values as columns of a frame."""
    ties = tie_breaker(scored.item)
    labels = scored.labels[:, place]
    found = {name: rank_metrics(scores, labels, scored.lengths, ties) for name, scores in rankings(scored, place).items()}
    starts = np.cumsum(scored.lengths) - scored.lengths
    positives = np.add.reduceat(labels > 0, starts).astype(np.int64)
    summary = {"lists": int(np.sum(positives > 0)), "positives": int(positives.sum()), **summarise(found["model"], 0, replicates)}
    summary["baselines"] = {name: summarise(values, 0, replicates) for name, values in found.items() if name != "model"}
    frame = pd.DataFrame({"search_id": [s.decode() for s in scored.search_id], "time": scored.time, "items": scored.lengths})
    frame["positives"] = positives
    for metric in METRICS:
        frame[metric] = getattr(found["model"], metric)
    for name, values in found.items():
        if name != "model":
            frame[f"map_{name}"] = values.map
    return summary, frame


def score_frame(scored: ScoredLists, tasks: tuple[str, ...]) -> pd.DataFrame:
    """One row per item: search id, hashed item id, position, label and score of each task."""
    search = np.repeat(np.array([s.decode() for s in scored.search_id], object), scored.lengths)
    frame = pd.DataFrame({"search_id": search, "item": scored.item, "position": scored.position})
    for place, task in enumerate(tasks):
        frame[f"label_{task}"] = scored.labels[:, place].astype(np.int8)
        frame[f"score_{task}"] = scored.scores[:, place]
    return frame


def table(tasks: dict[str, dict[str, Any]]) -> str:
    """The summary as text for a terminal: a block per task, a row per ranking, metrics with their intervals."""
    lines = []
    for task, summary in tasks.items():
        lines.append(f"{task}: {summary['lists']:,} lists with a positive")
        lines.append(f"  {'':<14}" + "".join(f"{name:^26}" for name in METRICS))
        rows = {"model": summary, **summary["baselines"]}
        for name, values in rows.items():
            cells = [f"{values[m]:.4f} [{values[m + '_ci'][0]:.4f}, {values[m + '_ci'][1]:.4f}]" for m in METRICS]
            lines.append(f"  {name:<14}" + "".join(f"{cell:^26}" for cell in cells))
    return "\n".join(lines)
