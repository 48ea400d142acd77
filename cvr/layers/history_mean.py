"""A behaviour sequence as the mean of its events."""

from __future__ import annotations

import tensorflow as tf


class HistoryMean(tf.keras.layers.Layer):
    """h = mean over real events of e_k; a learned vector for an empty history (PAPERS R6, R36).

    An unseen history is one event of the reserved item UNSEEN, so it has a vector of its own as well.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the vector of the empty history [dim]."""
        self.empty = self.add_weight("empty", shape=[int(input_shape[-1])], initializer="uniform")
        super().build(input_shape)

    def call(self, events: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """events `[B, K, dim]`, real bool `[B, K]` -> `[B, dim]`."""
        weights = tf.cast(real, events.dtype)
        count = tf.reduce_sum(weights, axis=1, keepdims=True)
        mean = tf.math.divide_no_nan(tf.reduce_sum(events * weights[..., None], axis=1), count)
        return tf.where(count > 0, mean, self.empty[None, :])

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events: no matrix product."""
        return 0

    def item_multiply_adds(self, length: int) -> int:
        """Of an item: none, the vector is the list's."""
        return 0
