"""Positions as rotations of queries and keys."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class RotaryPositions(tf.keras.layers.Layer):
    """RoPE (Su et al. 2021, equation 34): each pair of numbers (x_i, x_{i + c/2}) of a head at place p turns by the angle p theta^(-2i/c).

        x_i' = x_i cos a - x_{i + c/2} sin a        x_{i + c/2}' = x_i sin a + x_{i + c/2} cos a

    A query at p and a key at r then score by p - r alone. Pairs are a head's two halves; the paper pairs neighbours, which is the same but
    for an order of the columns of W_q and W_k. Nothing is learned.
    """

    def __init__(self, theta: float = 1e4, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.theta = theta

    def build(self, input_shape: tf.TensorShape) -> None:
        """Raises ValueError for a width that does not come in pairs."""
        if int(input_shape[-1]) % 2:
            raise ValueError(f"heads of width {int(input_shape[-1])} do not come in pairs of numbers to turn: the width must be even")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, first: int = 0) -> tf.Tensor:
        """`[..., L, c]` at places first .. first + L - 1 -> `[..., L, c]`; L and c are static."""
        return self.trace(inputs, first)["output"]

    def trace(self, inputs: tf.Tensor, first: int = 0) -> dict[str, tf.Tensor]:
        """Each step by name: `angles` `[L, c / 2]`, `output` `[..., L, c]`."""
        length, width = int(inputs.shape[-2]), int(inputs.shape[-1])
        places = np.arange(first, first + length, dtype=np.float64)
        angles = places[:, None] * self.theta ** (-2.0 * np.arange(width // 2) / width)
        cos, sin = (tf.cast(values, inputs.dtype) for values in (np.cos(angles), np.sin(angles)))
        one, other = inputs[..., : width // 2], inputs[..., width // 2 :]
        output = tf.concat([one * cos - other * sin, one * sin + other * cos], axis=-1)
        return {"angles": tf.constant(angles), "output": output}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "theta": self.theta}
