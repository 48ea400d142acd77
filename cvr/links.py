"""What a logit means as a probability under the loss that trained it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit, logit

from cvr.errors import CvrError
from cvr.losses import Loss
from cvr.manifest import Manifest
from cvr.scoring import ScoredLists

SMALLEST = 1e-6
"""Probabilities are kept within [SMALLEST, 1 - SMALLEST], so that their log-odds and log losses are finite."""
CONVERTED = "converted"
CONDITIONS = {
    CONVERTED: "P(positive | shown in a search list with at least one positive of the primary task)",
    "all": "P(positive | shown in a search list)",
}
"""Which lists a probability is about: those that the model was trained on (`--drop_unconverted` of build_lists)."""


@dataclasses.dataclass(frozen=True)
class Link:
    """From the logits s of a search list, divided by a temperature T, to log-odds z = log(p / (1 - p)) and probabilities p.

        softmax                  p_i = exp(s_i / T) / sum_j exp(s_j / T)     over the list: the logits have no level of their own
        calibrated_softmax       p_i = y0 exp(s_i / T)
        regression_compatible    p_i = 1 / (1 + exp(-s_i / T))

    all within [SMALLEST, 1 - SMALLEST]. `export.probabilities` computes the same in the graph.
    """

    loss: Loss

    def log_odds(self, scores: np.ndarray, lengths: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Scores `[N]` of lists laid one after the other, items per list `[Q]` -> z float64 `[N]`."""
        scaled = scores.astype(np.float64) / temperature
        if self.loss.name == "regression_compatible":
            return np.clip(scaled, logit(SMALLEST), -logit(SMALLEST))
        log_p = scaled - log_sums(scaled, lengths) if self.loss.name == "softmax" else scaled + np.log(self.loss.anchor_label)
        log_p = np.clip(log_p, np.log(SMALLEST), np.log1p(-SMALLEST))
        return log_p - np.log1p(-np.exp(log_p))

    def probabilities(self, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """p float64 `[N]` at temperature 1: what the loss itself makes of the logits."""
        return expit(self.log_odds(scores, lengths))


def log_sums(scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """log sum_j exp(s_j) of each item's list `[N]`."""
    starts = np.cumsum(lengths) - lengths
    highest = np.repeat(np.maximum.reduceat(scores, starts), lengths)
    return highest + np.repeat(np.log(np.add.reduceat(np.exp(scores - highest), starts)), lengths)


def link_of(info: Mapping[str, Any]) -> Link:
    """The link of a run, from its `run.json`."""
    flags = info.get("flags", {})
    return Link(Loss(flags.get("loss", "softmax"), flags.get("anchor_label", 1.0)))


def condition_of(manifest: Manifest) -> str:
    """The key in `CONDITIONS` of what lists were trained on: `converted` where `build_lists` dropped unconverted ones from training."""
    return CONVERTED if manifest.flags.get("drop_unconverted", "none") != "none" else "all"


def conditioned(scored: ScoredLists, condition: str, primary: int) -> ScoredLists:
    """The lists that probabilities under `condition` are about; `primary` is the primary task's column. Raises CvrError without any."""
    if condition != CONVERTED:
        return scored
    converted = np.maximum.reduceat(scored.labels[:, primary], np.cumsum(scored.lengths) - scored.lengths) > 0
    if not converted.any():
        raise CvrError("no list of this split has a positive of the primary task, so there is none that the probabilities are about")
    return scored.of_lists(converted)
