"""Wukong's linear compression block."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class LinearCompression(tf.keras.layers.Layer):
    """out = W X, each of `tokens` n_L output tokens a mixture of the n input tokens, no bias (Wukong 2024, LCB; PAPERS 3.7)."""

    def __init__(self, tokens: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.tokens = tokens

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W [n_L, n], with n for its fan-in."""
        count = int(input_shape[1])
        self.mix = self.add_weight("mix", shape=[self.tokens, count], initializer=normal(count, 1.0))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """X `[N, n, d]` -> `[N, n_L, d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `output` `[N, n_L, d]`."""
        return {"output": tf.matmul(tf.cast(self.mix, inputs.dtype), inputs)}

    def multiply_adds(self, tokens: int, width: int) -> int:
        """Of one row of n tokens of width d: n_L n d."""
        return self.tokens * tokens * width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "tokens": self.tokens}
