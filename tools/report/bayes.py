"""The ceiling of synthetic logs: how well the planted truth itself would have ranked the evaluated lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cvr.errors import CvrError
from cvr.metrics import mean_interval, rank_metrics, tie_breaker

REPLICATES = 1000


@dataclass(frozen=True)
class Ceiling:
    """mAP of the ranking by true utility, and the share of the gap from display order to it that the model closes.

    Intervals are 95 % percentile bootstraps over lists; for the share the three rankings are drawn together.
    """

    map: float
    map_ci: tuple[float, float]
    gap_closed: float
    gap_closed_ci: tuple[float, float]


def ceiling(scores_file: Path, truth_folder: Path, task: str) -> Ceiling:
    """Compares an evaluation's `scores.parquet` with the `bayes_score` of every impression in `truth/impressions`.

    Raises:
      CvrError: if the truth lacks an evaluated impression.
    """
    scores = pd.read_parquet(scores_file)
    columns = ["search_id", "position", "bayes_score"]
    truth = pd.concat([pd.read_parquet(path, columns=columns) for path in sorted(truth_folder.glob("*.parquet"))])
    joined = scores.merge(truth, on=["search_id", "position"], how="left", validate="one_to_one")
    if joined["bayes_score"].isna().any():
        missing = joined.loc[joined["bayes_score"].isna(), "search_id"].iloc[0]
        raise CvrError(f"{truth_folder} knows nothing of search {missing!r}: it is not the truth of these logs")
    rankings = {
        "model": joined[f"score_{task}"],
        "display": -joined["position"],
        "bayes": joined["bayes_score"],
    }
    starts = np.flatnonzero(joined["search_id"].ne(joined["search_id"].shift()))
    lengths, ties = np.diff(np.append(starts, len(joined))), tie_breaker(joined["item"].to_numpy())
    labels = joined[f"label_{task}"].to_numpy()
    per_list = {n: rank_metrics(s.to_numpy(float), labels, lengths, ties).map for n, s in rankings.items()}
    mean, interval = mean_interval(per_list["bayes"])
    return Ceiling(mean, interval, *gap_closed(per_list["model"], per_list["display"], per_list["bayes"]))


def gap_closed(model: np.ndarray, start: np.ndarray, best: np.ndarray) -> tuple[float, tuple[float, float]]:
    """(mean model - mean start) / (mean best - mean start) of per-list values [Q], NaN lists left out, and its interval."""
    values = np.stack([model, start, best])
    values = values[:, ~np.isnan(values).any(axis=0)]
    count = values.shape[1]
    if not count:
        return float("nan"), (float("nan"), float("nan"))
    generator = np.random.default_rng(0)
    drawn = np.array([values[:, generator.integers(0, count, count)].mean(axis=1) for _ in range(REPLICATES)])
    low, high = np.quantile(_share(*drawn.T), [0.025, 0.975])
    return float(_share(*values.mean(axis=1))), (float(low), float(high))


def _share(model: np.ndarray, start: np.ndarray, best: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (model - start) / (best - start)
