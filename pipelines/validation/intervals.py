"""Confidence intervals of shares and of means of values in [0, 1]."""

from __future__ import annotations

import math

import numpy as np

Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile: intervals hold 95 %."""


def wilson(share: np.ndarray | float, trials: np.ndarray | float, z: float = Z) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) of a share p of n > 0 trials; any shape.

    For the mean p of n independent values in [0, 1] it is wide enough too, since their variance is at most p(1-p).
    """
    p, n = np.asarray(share, np.float64), np.asarray(trials, np.float64)
    scale = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / scale
    spread = z * np.sqrt(np.maximum(p * (1 - p), 0) / n + (z / (2 * n)) ** 2) / scale
    return middle - spread, middle + spread


def mean_interval(count: float, total: float, squares: float) -> tuple[float, float, float] | None:
    """(mean, low, high) of a mean by the normal approximation from number, sum and sum of squares; None without two values."""
    if count < 2:
        return None
    mean = total / count
    variance = max(squares - count * mean * mean, 0.0) / (count - 1)
    spread = Z * math.sqrt(variance / count)
    return mean, mean - spread, mean + spread
