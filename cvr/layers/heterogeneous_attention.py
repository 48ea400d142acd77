"""Attention between tokens that each have projections of their own: the first half of HHSFT."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.initial import normal
from cvr.layers.multi_head import attend


@tf.keras.utils.register_keras_serializable("cvr")
class HeterogeneousAttention(tf.keras.layers.Layer):
    """out = concat_h( softmax(Q_h K_h' / sqrt(k)) V_h ) W_o + b_o with q_i = W_i^Q x_i + b_i^Q for token i; keys and values alike.

    UniScale's HFA (2603.24226; PAPERS 3.9): tokens mean different things, so W_i^Q, W_i^K and W_i^V are token i's own. What follows is
    ordinary multi-head attention, whose output layer all tokens share. A head is `head_width` k wide.
    """

    def __init__(self, heads: int, head_width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads, self.head_width = heads, head_width

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes kernels [T, d, 3 H k], whose columns are query, key, value, each head by head, biases [T, 1, 3 H k], and W_o [H k, d]."""
        count, width, inner = int(input_shape[1]), int(input_shape[2]), self.heads * self.head_width
        self.kernel = self.add_weight("kernel", shape=[count, width, 3 * inner], initializer=normal(width, 1.0))
        self.bias = self.add_weight("bias", shape=[count, 1, 3 * inner], initializer="zeros")
        self._output = tf.keras.layers.Dense(width, kernel_initializer=normal(inner, 1.0), name="output")
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """X `[N, T, d]` -> `[N, T, d]`."""
        return self.trace(tokens)["output"]

    def trace(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """The steps of `attend`, and `output` `[N, T, d]`."""
        joint = tf.matmul(tf.transpose(tokens, [1, 0, 2]), self.kernel) + self.bias
        parts = tf.reshape(joint, [tokens.shape[1], -1, 3, self.heads, self.head_width])
        steps = attend(*tf.unstack(tf.transpose(parts, [2, 1, 3, 0, 4])))
        return {**steps, "output": self._output(steps["read"])}

    def multiply_adds(self, length: int, width: int) -> int:
        """Of one row: H (4 T d k + 2 T^2 k)."""
        return self.heads * self.head_width * (4 * length * width + 2 * length * length)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads, "head_width": self.head_width}
