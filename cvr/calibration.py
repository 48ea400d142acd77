"""Post-hoc calibration of a run's scores by task: fitting, the file `calibration.json` of a run, and probabilities from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from cvr.errors import CvrError
from cvr.links import CONDITIONS, SMALLEST, Link
from cvr.losses import Loss

CALIBRATION_FILE = "calibration.json"
METHODS = ("platt", "isotonic", "temperature")
_TEMPERATURES = (0.02, 50.0)


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class TaskCalibration(_Model):
    """One task's map from log-odds z at a temperature T (`cvr.links.Link`) to probabilities, and what it was fitted on.

        platt, temperature   p = 1 / (1 + exp(-(slope z(s / T) + intercept)))       T = 1, or slope = 1 and intercept = 0
        isotonic             p = the line through (log_odds, probability), constant outside; within [SMALLEST, 1 - SMALLEST]

    `log_loss` is the mean per item on the fitted lists, before and after.
    """

    slope: float = 1.0
    intercept: float = 0.0
    temperature: float = 1.0
    log_odds: list[float] = []
    probability: list[float] = []
    items: int
    positives: int
    log_loss: tuple[float, float]

    def apply(self, link: Link, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Scores `[N]` of lists laid one after the other -> probabilities float64 `[N]`."""
        odds = link.log_odds(scores, lengths, self.temperature)
        if self.log_odds:
            return np.clip(np.interp(odds, self.log_odds, self.probability), SMALLEST, 1 - SMALLEST)
        return expit(self.slope * odds + self.intercept)


class Calibration(_Model):
    """The content of `calibration.json`: the method, what it was fitted on, and each task's map."""

    format_version: Literal[1] = 1
    method: str
    loss: str
    anchor_label: float
    condition: str
    split: str
    data: str
    checkpoint: str
    created: str
    lists: int
    tasks: dict[str, TaskCalibration]

    @property
    def link(self) -> Link:
        """What the run's logits mean."""
        return Link(Loss(self.loss, self.anchor_label))

    @property
    def meaning(self) -> str:
        """What the probabilities are conditional on."""
        return CONDITIONS[self.condition]

    def probabilities(self, task: str, scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Scores `[N]` of a task, lists laid one after the other -> probabilities float64 `[N]`; what they mean is `meaning`."""
        return self.tasks[task].apply(self.link, scores, lengths)


def log_loss(labels: np.ndarray, probability: np.ndarray) -> float:
    """Mean of -y log p - (1 - y) log(1 - p) per item."""
    return float(-np.mean(np.where(labels > 0, np.log(probability), np.log1p(-probability))))


def fit_task(method: str, link: Link, scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, task: str) -> TaskCalibration:
    """Fits one task's map by the items' log loss (isotonic: squared error); scores and labels `[N]`, items per list `[Q]`.

    Raises CvrError naming the task where it has no positive or no negative, where its labels do not rise with its scores, or where no
    temperature fits.
    """
    positives = int(np.sum(labels > 0))
    if not 0 < positives < len(labels):
        raise CvrError(f"task {task!r} has {positives} positives among {len(labels)} items; a calibration needs positives and negatives")
    fits: dict[str, Callable[..., dict[str, Any]]] = {"platt": _platt, "isotonic": _isotonic, "temperature": _temperature}
    fitted = fits[method](link, scores, labels > 0, lengths, task)
    before = log_loss(labels, link.probabilities(scores, lengths))
    made = TaskCalibration(items=len(labels), positives=positives, log_loss=(before, before), **fitted)
    return made.model_copy(update={"log_loss": (before, log_loss(labels, made.apply(link, scores, lengths)))})


def _platt(link: Link, scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, task: str) -> dict[str, float]:
    """Logistic regression of the label on z, not regularised (Platt 1999, without his smoothing of the labels)."""
    slope, intercept = logistic_line(link.log_odds(scores, lengths), labels)
    if not slope > 0:
        raise CvrError(f"task {task!r}: labels do not rise with the scores (slope {slope:.3g}), so no line keeps their order")
    return {"slope": slope, "intercept": intercept}


def _isotonic(link: Link, scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, task: str) -> dict[str, list[float]]:
    """The non-decreasing step function of least squared error; between its steps a straight line (scikit-learn)."""
    model = IsotonicRegression(out_of_bounds="clip").fit(link.log_odds(scores, lengths), labels.astype(np.float64))
    if model.y_thresholds_[0] == model.y_thresholds_[-1]:
        raise CvrError(f"task {task!r}: labels do not rise with the scores, so no step keeps their order")
    return {"log_odds": model.X_thresholds_.tolist(), "probability": model.y_thresholds_.tolist()}


def _temperature(link: Link, scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray, task: str) -> dict[str, float]:
    """The T of least log loss (Guo et al. 2017). It changes how sharp the scores are and not their level."""

    def loss(log_temperature: float) -> float:
        return log_loss(labels, expit(link.log_odds(scores, lengths, np.exp(log_temperature))))

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded", options={"xatol": 1e-9})
    temperature = float(np.exp(found.x))
    if not _TEMPERATURES[0] * 1.01 < temperature < _TEMPERATURES[1] / 1.01:
        raise CvrError(f"task {task!r}: no temperature from 0.02 to 50 fits, since the level of the scores is off; use --method=platt")
    return {"temperature": temperature}


def logistic_line(log_odds: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(slope, intercept) of the logistic regression of labels `[N]` on log-odds `[N]`, not regularised.

    NaN where there is none: labels of one kind, one value of all log-odds, or labels that a threshold tells apart without a miss.
    """
    positive, negative = log_odds[labels > 0], log_odds[labels <= 0]
    if not len(positive) or not len(negative) or positive.min() >= negative.max() or positive.max() <= negative.min():
        return float("nan"), float("nan")
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=200)
    model.fit(log_odds[:, None], labels > 0)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def load_calibration(folder: Path, checkpoint: str) -> Calibration | None:
    """The calibration of the run in `folder`; None where it has none.

    Raises CvrError for a file that is not whole, or that was fitted to another checkpoint than the run uses.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        found = Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise CvrError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; remove it and calibrate again") from error
    if found.checkpoint != checkpoint:
        raise CvrError(f"{path} was fitted to {found.checkpoint}, and the run uses {checkpoint}; remove it and calibrate again")
    return found
