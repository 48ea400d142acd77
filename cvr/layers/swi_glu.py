"""A feed-forward network with a gate."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.building import build_all
from cvr.layers.initial import normal


def hidden_width(width: int) -> int:
    """32 ceil( floor(2/3 4 d) / 32 ): as many weights in three matrices as an inner width of 4 d has in two, in whole 32s (PAPERS 3.12)."""
    return 32 * -(-int(2 / 3 * 4 * width) // 32)


@tf.keras.utils.register_keras_serializable("cvr")
class SwiGLU(tf.keras.layers.Layer):
    """y = W_3 ( SiLU(W_1 x) * (W_2 x) ), SiLU(z) = z sigmoid(z), the same weights for all tokens (Shazeer 2020, equation 6).

    `width` is the inner width f; `bias` gives each of the three matrices one.
    """

    def __init__(self, width: int, bias: bool = False, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width, self.bias = width, bias

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W_1 (`gate`), W_2 (`up`) [d, f] and W_3 (`down`) [f, d]."""
        d = int(input_shape[-1])
        self._gate = self._dense(self.width, d, 2.0, "gate")
        self._up = self._dense(self.width, d, 1.0, "up")
        self._down = self._dense(d, self.width, 1.0, "down")
        build_all([self._gate, self._up], input_shape)
        build_all([self._down], tf.TensorShape([None, self.width]))
        super().build(input_shape)

    def _dense(self, width: int, fan_in: int, gain: float, name: str) -> tf.keras.layers.Dense:
        return tf.keras.layers.Dense(width, use_bias=self.bias, kernel_initializer=normal(fan_in, gain), name=name)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[..., d]` -> `[..., d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `gate` SiLU(W_1 x) and `inner` its product with W_2 x `[..., f]`, `output` `[..., d]`."""
        gate = tf.nn.silu(self._gate(inputs))
        inner = gate * self._up(inputs)
        return {"gate": gate, "inner": inner, "output": self._down(inner)}

    def multiply_adds(self, rows: int, width: int) -> int:
        """Of `rows` tokens of width d: 3 d f each."""
        return rows * 3 * width * self.width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "width": self.width, "bias": self.bias}
