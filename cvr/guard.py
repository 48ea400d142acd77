"""Watches the losses on the device, so that a step that went wrong is known exactly without waiting for each step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvr.data import Batch
from cvr.extraction import Extraction

EXPLODED = 100.0
"""A loss this many times that of the first step, or of 1 where that is smaller, has exploded."""


@dataclasses.dataclass(frozen=True)
class BadStep:
    """The first bad step: its place since the last `take`, counted from 0, the loss of each task, and the norm of all gradients."""

    place: int
    losses: np.ndarray
    gradient_norm: float

    def describe(self, tasks: Sequence[str]) -> str:
        """What was wrong, for a user."""
        shown = ", ".join(f"{task} {loss:.4g}" for task, loss in zip(tasks, self.losses, strict=True))
        if not np.all(np.isfinite(self.losses)):
            return f"the loss is not finite ({shown})"
        if not np.isfinite(self.gradient_norm):
            return f"the gradients are not finite (loss {shown})"
        return f"the loss exploded ({shown}, more than {EXPLODED:.0f} times that of the first step)"


class LossGuard(tf.Module):
    """Sums of the losses since the last `take`, and the first step whose losses or gradients were not finite or whose loss exploded."""

    def __init__(self, tasks: int) -> None:
        super().__init__(name="guard")
        self._sums = tf.Variable(tf.zeros([tasks]), trainable=False, name="sums")
        self._norms = tf.Variable(0.0, trainable=False, name="norms")
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
        self._limit = tf.Variable(np.inf, dtype=tf.float32, trainable=False, name="limit")
        self._bad_place = tf.Variable(-1, dtype=tf.int64, trainable=False, name="bad_place")
        self._bad_values = tf.Variable(tf.zeros([tasks + 1]), trainable=False, name="bad_values")

    def watch(self, losses: tf.Tensor, gradient_norm: tf.Tensor) -> None:
        """One step, inside its graph: losses `[T]`, gradient_norm `[]`."""
        total, norm = tf.reduce_sum(losses), tf.cast(gradient_norm, tf.float32)
        bad = tf.logical_or(tf.logical_not(tf.math.is_finite(total + norm)), total > self._limit)
        first = tf.logical_and(bad, self._bad_place < 0)
        self._bad_values.assign(tf.where(first, tf.concat([losses, norm[None]], axis=0), self._bad_values))
        self._bad_place.assign(tf.where(first, self._steps, self._bad_place))
        self._sums.assign_add(losses)
        self._norms.assign_add(norm)
        self._steps.assign_add(1)

    def bad_step(self) -> BadStep | None:
        """The first bad step since the last `take`, if there was one. Waits for the device."""
        place = int(self._bad_place.numpy())
        if place < 0:
            return None
        *losses, norm = self._bad_values.numpy()
        return BadStep(place, np.asarray(losses), float(norm))

    @property
    def steps(self) -> int:
        """Steps since the last `take`."""
        return int(self._steps.numpy())

    @property
    def gradient_norm(self) -> float:
        """Mean norm of all gradients, before any clip, since the last `take`."""
        return float(self._norms.numpy()) / max(self.steps, 1)

    def take(self) -> np.ndarray:
        """Mean losses `[T]` since the last `take`, which start anew; the first ones set what counts as exploded."""
        mean = self._sums.numpy() / max(self.steps, 1)
        if np.isinf(self._limit.numpy()):
            self._limit.assign(EXPLODED * max(float(mean.sum()), 1.0))
        self._sums.assign(tf.zeros_like(self._sums))
        self._norms.assign(0.0)
        self._steps.assign(0)
        return mean


def describe_batch(extraction: Extraction, batch: Batch, shown: int = 5) -> str:
    """A batch for an error: the search ids of its lists, and the greatest raw number in it with its feature and list."""
    ids = [value.decode(errors="replace") for value in batch["search_id"].numpy()[batch["list_size"].numpy() > 0]]
    more = f" and {len(ids) - shown} more" if len(ids) > shown else ""
    text = f"the batch holds {len(ids)} lists, search ids {', '.join(ids[:shown])}{more}"
    found = [_greatest(extraction, batch, level) for level in extraction.numericals]
    if not found:
        return text
    value, feature, row = max(found)
    return f"{text}; its greatest number is {value:.4g}, feature {feature!r} in list {ids[row]}"


def _greatest(extraction: Extraction, batch: Batch, level: str) -> tuple[float, str, int]:
    """(absolute value, feature, list) of the greatest finite number of a level, in rows that are no padding."""
    values = extraction.raw_numericals(batch, level).numpy()
    real = batch["item_mask" if level == "item" else "list_size"].numpy() > 0
    sizes = np.where(np.isfinite(values) & real[:, None], np.abs(values), -1.0)
    row, column = np.unravel_index(np.argmax(sizes), sizes.shape)
    place = int(batch["list_index"].numpy()[row]) if level == "item" else int(row)
    return float(sizes[row, column]), extraction.numericals[level].names[column], place
