"""Calibrated probabilities in the graph: the equations of `cvr.links` and `cvr.calibration` in TensorFlow, in float64 as there."""

from __future__ import annotations

import math

import tensorflow as tf

from cvr.calibration import Calibration, TaskCalibration
from cvr.links import SMALLEST, Link

PREFIX = "probability/"


def probabilities(calibration: Calibration, logits: dict[str, tf.Tensor], list_index: tf.Tensor, lists: tf.Tensor) -> dict[str, tf.Tensor]:
    """Logits `[N]` by task, and the list of each item -> float32 `[N]` by `probability/<task>`. What they mean is `calibration.meaning`."""
    return {
        f"{PREFIX}{task}": tf.cast(_probability(found, calibration.link, logits[task], list_index, lists), tf.float32)
        for task, found in calibration.tasks.items()
    }


def _probability(found: TaskCalibration, link: Link, logits: tf.Tensor, list_index: tf.Tensor, lists: tf.Tensor) -> tf.Tensor:
    odds = _log_odds(link, tf.cast(logits, tf.float64) / found.temperature, list_index, lists)
    if found.log_odds:
        return tf.clip_by_value(_interpolate(odds, found.log_odds, found.probability), SMALLEST, 1 - SMALLEST)
    return tf.sigmoid(found.slope * odds + found.intercept)


def _log_odds(link: Link, scaled: tf.Tensor, list_index: tf.Tensor, lists: tf.Tensor) -> tf.Tensor:
    if link.loss.name == "regression_compatible":
        bound = math.log1p(-SMALLEST) - math.log(SMALLEST)
        return tf.clip_by_value(scaled, -bound, bound)
    if link.loss.name == "softmax":
        highest = tf.gather(tf.math.unsorted_segment_max(scaled, list_index, lists), list_index)
        total = tf.math.unsorted_segment_sum(tf.exp(scaled - highest), list_index, lists)
        log_p = scaled - highest - tf.gather(tf.math.log(total), list_index)
    else:
        log_p = scaled + math.log(link.loss.anchor_label)
    log_p = tf.clip_by_value(log_p, math.log(SMALLEST), math.log1p(-SMALLEST))
    return log_p - tf.math.log1p(-tf.exp(log_p))


def _interpolate(x: tf.Tensor, knots: list[float], values: list[float]) -> tf.Tensor:
    """numpy.interp: the line through (knots, values), constant outside; `knots` rise."""
    at, height = tf.constant(knots, tf.float64), tf.constant(values, tf.float64)
    inside = tf.clip_by_value(x, at[0], at[-1])
    right = tf.clip_by_value(tf.searchsorted(at, inside, side="right"), 1, len(knots) - 1)
    left = right - 1
    share = (inside - tf.gather(at, left)) / (tf.gather(at, right) - tf.gather(at, left))
    return tf.gather(height, left) + share * (tf.gather(height, right) - tf.gather(height, left))
