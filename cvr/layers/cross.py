"""The DCN-V2 cross layer."""

from __future__ import annotations

import tensorflow as tf


class Cross(tf.keras.layers.Layer):
    """x_{l+1} = x0 * (U (V x_l) + b) + x_l, or with the full matrix W x_l when `rank` is 0 (DCN-V2, WWW'21; paper 3.1, PAPERS R21).

    One bias, after U and inside the product; no activation.
    """

    def __init__(self, rank: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rank = rank

    def build(self, input_shape: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """Makes V [D, rank] and U [rank, D], or W [D, D], and b [D]."""
        width = int(input_shape[0][-1])
        if self.rank:
            self.down = self.add_weight("down", shape=[width, self.rank], initializer="glorot_normal")
        self.up = self.add_weight("up", shape=[self.rank or width, width], initializer="glorot_normal")
        self.bias = self.add_weight("bias", shape=[width], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """(x0 `[N, D]`, x_l `[N, D]`) -> `[N, D]`."""
        first, current = inputs
        inner = tf.matmul(current, tf.cast(self.down, current.dtype)) if self.rank else current
        return first * (tf.matmul(inner, tf.cast(self.up, current.dtype)) + tf.cast(self.bias, current.dtype)) + current

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "rank": self.rank}
