"""A behaviour sequence as the mean of its events."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class HistoryMean(tf.keras.layers.Layer):
    """h = mean over real events of e_k; a learned vector for an empty history (PAPERS R6, R36).

    An unseen history is one event of the reserved item UNSEEN, so it has a vector of its own as well. Order does not matter.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the vector of the empty history [d]."""
        self.width = int(input_shape[-1])
        self.empty = self.add_weight("empty", shape=[self.width], initializer="uniform")
        super().build(input_shape)

    def call(self, events: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """events `[B, K, d]`, real bool `[B, K]` -> `[B, d]`."""
        return self.trace(events, real)["output"]

    def trace(self, events: tf.Tensor, real: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `shares` 1 / number of real events, 0 at padding `[B, K]`, `mean` and `output` `[B, d]`."""
        shares = shares_of(real, events.dtype)
        mean = tf.linalg.matvec(events, shares, transpose_a=True)
        output = tf.where(tf.reduce_any(real, axis=1, keepdims=True), mean, tf.cast(self.empty, mean.dtype))
        return {"shares": shares, "mean": mean, "output": output}

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events: K d."""
        return length * self.width

    def item_multiply_adds(self, length: int) -> int:
        """Of an item: none, the vector is the list's."""
        return 0


def shares_of(real: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Each real event's part of a mean, real bool `[B, K]` -> `[B, K]`; counted in float32, since bfloat16 counts to 256 only."""
    count = tf.reduce_sum(tf.cast(real, tf.float32), axis=1, keepdims=True)
    return tf.math.divide_no_nan(tf.cast(real, dtype), tf.cast(count, dtype))
