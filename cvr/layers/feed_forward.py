"""The feed-forward network that every token passes through."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.initial import normal


def gelu(x: tf.Tensor) -> tf.Tensor:
    """x Phi(x), exact in float64 too: TensorFlow's own takes a square root of 2 in float32."""
    return 0.5 * x * (1.0 + tf.math.erf(x * 0.5**0.5))


ACTIVATIONS = {"relu": tf.nn.relu, "gelu": gelu}


@tf.keras.utils.register_keras_serializable("cvr")
class FeedForward(tf.keras.layers.Layer):
    """y = W_2 a(W_1 x + b_1) + b_2, the same weights for all tokens (Vaswani et al. 2017, 3.3); a is `relu` or `gelu`."""

    def __init__(self, width: int, activation: str = "relu", **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width, self.activation = width, activation

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes both layers: [d, f] and [f, d]."""
        d = int(input_shape[-1])
        self._up = tf.keras.layers.Dense(self.width, kernel_initializer=normal(d), name="up")
        self._down = tf.keras.layers.Dense(d, kernel_initializer=normal(self.width, 1.0), name="down")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[..., d]` -> `[..., d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `hidden` and `active` `[..., f]`, `output` `[..., d]`."""
        hidden = self._up(inputs)
        active = ACTIVATIONS[self.activation](hidden)
        return {"hidden": hidden, "active": active, "output": self._down(active)}

    def multiply_adds(self, rows: int, width: int) -> int:
        """Of `rows` tokens of width d: 2 d f each."""
        return rows * 2 * width * self.width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "width": self.width, "activation": self.activation}
