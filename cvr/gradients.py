"""Gradients before an optimizer gets them: repeated rows of a table summed once, one global norm over all variables, clipping by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import tensorflow as tf

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices


class Summed(NamedTuple):
    """A gradient in which every row stands with its sum, and the sum of squares of that gradient, float32."""

    gradient: Gradient
    squares: tf.Tensor


def sum_rows(gradient: tf.IndexedSlices, by_sorting: bool = False) -> Summed:
    """Sums the values that a sparse gradient `(values [M, ...], indices [M])` has for one row.

    Without sorting each of the U used rows comes once: `tf.unique` and a segment sum. That is the quicker way on a CPU, but XLA turns
    `tf.unique` into a loop of one iteration per id and cannot have U. By sorting the result keeps M entries, sorted by row, and a row
    that was used k times comes k times, each time with the full sum: right for updates that set a row, wrong for those that add to it. No
    entry is made up to fill the shape, so none touches a row that the batch did not use.
    """
    if not by_sorting:
        rows, place = tf.unique(gradient.indices)
        sums = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
        return Summed(tf.IndexedSlices(sums, rows, gradient.dense_shape), sum_of_squares(sums))
    order = tf.argsort(gradient.indices, stable=True)
    rows = tf.gather(gradient.indices, order)
    is_next = tf.not_equal(rows, tf.concat([rows[:1], rows[:-1]], axis=0))
    place = tf.cumsum(tf.cast(is_next, tf.int32))
    sums = tf.math.unsorted_segment_sum(tf.gather(gradient.values, order), place, tf.size(rows))
    return Summed(tf.IndexedSlices(tf.gather(sums, place), rows, gradient.dense_shape), sum_of_squares(sums))


def sum_of_squares(values: tf.Tensor) -> tf.Tensor:
    """sum v^2, a float32 scalar."""
    return 2.0 * tf.nn.l2_loss(tf.cast(values, tf.float32))


def global_norm(squares: Iterable[tf.Tensor]) -> tf.Tensor:
    """sqrt( sum_v |g_v|^2 ) over all variables v, from each one's sum of squares: a float32 scalar."""
    return tf.sqrt(tf.add_n(list(squares)))


def scaled(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """A gradient, dense or sparse, times a scalar."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * tf.cast(factor, gradient.dtype), gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(factor, gradient.dtype)
