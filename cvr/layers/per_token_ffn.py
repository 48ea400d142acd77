"""RankMixer's per-token feed-forward network."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class PerTokenFFN(tf.keras.layers.Layer):
    """v_t = W2_t a(W1_t s_t + b1_t) + b2_t with weights of each token's own (RankMixer, CIKM'25; PAPERS 3.3); a is `gelu` or `relu`."""

    def __init__(self, width: int, activation: str = "gelu", **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width, self.activation = width, activation

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W1 [T, D, f], b1 [T, 1, f], W2 [T, f, D] and b2 [T, 1, D]; each token's kernel starts with a fan-in of its own."""
        count, width = int(input_shape[1]), int(input_shape[2])
        self.up = self.add_weight("up", shape=[count, width, self.width], initializer=normal(width))
        self.up_bias = self.add_weight("up_bias", shape=[count, 1, self.width], initializer="zeros")
        self.down = self.add_weight("down", shape=[count, self.width, width], initializer=normal(self.width, 1.0))
        self.down_bias = self.add_weight("down_bias", shape=[count, 1, width], initializer="zeros")
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """S `[N, T, D]` -> V `[N, T, D]`."""
        return self.trace(tokens)["output"]

    def trace(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `hidden` and `active` `[T, N, f]`, `output` `[N, T, D]`."""
        hidden = tf.matmul(tf.transpose(tokens, [1, 0, 2]), self.up) + self.up_bias
        active = ACTIVATIONS[self.activation](hidden)
        output = tf.matmul(active, self.down) + self.down_bias
        return {"hidden": hidden, "active": active, "output": tf.transpose(output, [1, 0, 2])}

    def multiply_adds(self, tokens: int, width: int) -> int:
        """Of one row of T tokens of width D: 2 T D f."""
        return tokens * 2 * width * self.width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "width": self.width, "activation": self.activation}
