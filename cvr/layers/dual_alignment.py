"""A gate that weighs two views of the same token against each other, channel by channel."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class DualAlignment(tf.keras.layers.Layer):
    """g = softmax over two branches of (W_1 r, W_2 r), channel by channel, r = ReLU(W_r s); this is g_1, and g_2 = 1 - g_1.

    SUAN's dual alignment attention (PAPERS 3.8): s sums up both views; r is a quarter as wide. No biases.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W_r [D, D / 4] (`reduce`) and W_1, W_2 side by side [D / 4, 2 D] (`branches`)."""
        width = int(input_shape[-1])
        narrow = max(1, width // 4)
        self._reduce = tf.keras.layers.Dense(narrow, use_bias=False, kernel_initializer=normal(width), name="reduce")
        self._branches = tf.keras.layers.Dense(2 * width, use_bias=False, kernel_initializer=normal(narrow, 1.0), name="branches")
        super().build(input_shape)

    def call(self, pooled: tf.Tensor) -> tf.Tensor:
        """s `[..., D]` -> g_1 `[..., D]`."""
        return self.trace(pooled)["output"]

    def trace(self, pooled: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `reduced` r `[..., D / 4]`, `output` g_1 `[..., D]`."""
        reduced = tf.nn.relu(self._reduce(pooled))
        first, second = tf.split(self._branches(reduced), 2, axis=-1)
        return {"reduced": reduced, "output": tf.sigmoid(first - second)}  # a softmax of two

    @staticmethod
    def multiply_adds(rows: int, width: int) -> int:
        """Of `rows` vectors of width D: 3 D floor(D / 4) each."""
        return rows * 3 * width * max(1, width // 4)
