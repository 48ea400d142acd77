"""The DCN-V2 cross layer."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
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
        return self.trace(inputs)["output"]

    def trace(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Each step by name: `reduced` `[N, rank]` (low rank only), `product` `[N, D]`, `output` `[N, D]`."""
        first, current = inputs
        steps = {"reduced": tf.matmul(current, tf.cast(self.down, current.dtype))} if self.rank else {}
        inner = steps.get("reduced", current)
        steps["product"] = tf.matmul(inner, tf.cast(self.up, current.dtype)) + tf.cast(self.bias, current.dtype)
        return {**steps, "output": first * steps["product"] + current}

    def multiply_adds(self, width: int) -> int:
        """Of one row of `width` D: 2 D rank, or D^2 with the full matrix."""
        return 2 * width * self.rank if self.rank else width * width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "rank": self.rank}
