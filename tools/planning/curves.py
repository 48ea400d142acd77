"""Scaling curves, fitted to many replicates at once: y = a + b log2 x, and y = c - k x^-p.

Both are least squares with a weight per level. For a given p the power law is linear in c and k, so only p is searched for: on a grid, then
by golden sections around the grid's best, on the residual sum of squares that the best c and k leave.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

LEVEL = 0.05
EXPONENTS = (0.02, 4.0)
"""Range of p; at its lower end the power law is the log-linear one in all but name."""
_GRID = 60
_SECTIONS = 45
_GOLDEN = (math.sqrt(5) - 1) / 2

Interval = tuple[float, float]


def interval_of(replicates: np.ndarray) -> Interval:
    """The middle 95 % of `[R]`."""
    low, high = np.quantile(replicates, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def fit_log_linear(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(a, b) `[R, 2]` of y `[R, L]` at x `[L]`, L at least 2."""
    return _line(np.broadcast_to(np.log2(x), y.shape), y, weights)


def predict_log_linear(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`[R, K]` at x `[K]`."""
    return parameters[:, :1] + parameters[:, 1:] * np.log2(x)


def fit_power_law(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(c, k, p) `[R, 3]` of y `[R, L]` at x `[L]`, L at least 3; p within EXPONENTS."""
    unit = math.exp(float(np.mean(np.log(x))))
    logs = np.log(x / unit)
    grid = np.geomspace(*EXPONENTS, _GRID)
    misfit = np.stack([_misfit(np.full(len(y), p), logs, y, weights) for p in grid])
    best = np.argmin(misfit, axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _GRID - 1)]
    p = _smallest(lambda at: _misfit(at, logs, y, weights), low, high)
    line = _line(_powers(p, logs), y, weights)
    return np.stack([line[:, 0], -line[:, 1] * unit**p, p], axis=1)


def predict_power_law(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`[R, K]` at x `[K]`."""
    c, k, p = (parameters[:, place, None] for place in range(3))
    return c - k * x**-p


def _powers(p: np.ndarray, logs: np.ndarray) -> np.ndarray:
    return np.exp(-p[:, None] * logs)


def _line(z: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intercept and slope `[R, 2]` of y on z, `[R, L]` each."""
    share = weights / weights.sum()
    mean_z, mean_y = (z @ share)[:, None], (y @ share)[:, None]
    slope = ((z - mean_z) * (y - mean_y)) @ share / ((z - mean_z) ** 2 @ share)
    return np.stack([mean_y[:, 0] - slope * mean_z[:, 0], slope], axis=1)


def _misfit(p: np.ndarray, logs: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum of squares `[R]` that the best c and k leave."""
    z = _powers(p, logs)
    line = _line(z, y, weights)
    return (y - line[:, :1] - line[:, 1:] * z) ** 2 @ weights


def _smallest(misfit: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Golden-section search, each replicate in its own bracket `[R]`."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = misfit(left), misfit(right)
    for _ in range(_SECTIONS):
        down = at_left <= at_right
        low, high = np.where(down, low, left), np.where(down, right, high)
        fresh = np.where(down, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        value = misfit(fresh)
        left, right = np.where(down, fresh, right), np.where(down, left, fresh)
        at_left, at_right = np.where(down, value, at_right), np.where(down, at_left, value)
    return (low + high) / 2


@dataclasses.dataclass(frozen=True)
class Form:
    """A shape of curve: its parameters' names, and how it is fitted and evaluated."""

    name: str
    formula: str
    parameters: tuple[str, ...]
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray]


FORMS = (
    Form("log-linear", "a + b log2 x", ("a", "b"), fit_log_linear, predict_log_linear),
    Form("power law", "c - k x^-p", ("c", "k", "p"), fit_power_law, predict_power_law),
)


@dataclasses.dataclass(frozen=True)
class LastOut:
    """What a form, fitted without the last level, predicts for it less what was measured there; None of the interval: not known."""

    error: float
    interval: Interval | None

    @property
    def held(self) -> bool | None:
        """Whether the error may be noise; None where the noise is not known."""
        return None if self.interval is None else self.interval[0] <= 0 <= self.interval[1]


@dataclasses.dataclass(frozen=True)
class Fit:
    """A form fitted to the levels of an axis; `values` are its parameters, `replicates` `[R, P]` those of each replicate, or None."""

    form: Form
    values: np.ndarray
    replicates: np.ndarray | None
    last_out: LastOut | None

    @property
    def at_end(self) -> bool:
        """Whether it has an exponent, and that is at an end of its range."""
        return "p" in self.form.parameters and bool(np.any(np.isclose(self.values[-1], EXPONENTS, rtol=0.01)))

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The curve `[K]` and its replicates `[R, K]` at x `[K]`."""
        value = self.form.predict(self.values[None], x)[0]
        return value, None if self.replicates is None else self.form.predict(self.replicates, x)


def fit(form: Form, x: np.ndarray, means: np.ndarray, replicates: np.ndarray | None, weights: np.ndarray) -> Fit:
    """Fits a form to means `[L]` at x `[L]`, ascending, and to replicates `[R, L]`; checked at the last where the others suffice."""
    found = form.fit(x, means[None], weights)[0]
    drawn = None if replicates is None else form.fit(x, replicates, weights)
    return Fit(form, found, drawn, _last_out(form, x, means, replicates, weights))


def _last_out(form: Form, x: np.ndarray, means: np.ndarray, replicates: np.ndarray | None, weights: np.ndarray) -> LastOut | None:
    if len(x) - 1 < len(form.parameters):
        return None

    def errors(y: np.ndarray) -> np.ndarray:
        return form.predict(form.fit(x[:-1], y[:, :-1], weights[:-1]), x[-1:])[:, 0] - y[:, -1]

    return LastOut(float(errors(means[None])[0]), None if replicates is None else interval_of(errors(replicates)))


def fits(x: np.ndarray, means: np.ndarray, replicates: np.ndarray | None, weights: np.ndarray) -> list[Fit]:
    """Every form that the levels suffice for and the last of which can be left out, the chosen one first: the one that then errs least.

    A power law whose p is at an end of its range tells no curvature and comes last. With two levels there is the log-linear one, unchecked.
    """
    found = [fit(form, x, means, replicates, weights) for form in FORMS if len(x) >= len(form.parameters)]
    checked = [one for one in found if one.last_out is not None]
    return sorted(checked, key=lambda one: (one.at_end, abs(one.last_out.error) if one.last_out else math.inf)) or found[:1]
