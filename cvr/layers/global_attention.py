"""Attention whose queries, keys and values each see all tokens: the second half of HHSFT."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.initial import normal
from cvr.layers.multi_head import attend


@tf.keras.utils.register_keras_serializable("cvr")
class GlobalAttention(tf.keras.layers.Layer):
    """out = concat_h( softmax(Q_h K_h' / sqrt(k)) V_h ) W_o + b_o with [q_1; ..; q_T] = W^Q [x_1; ..; x_T] + b^Q; keys, values alike.

    UniScale's GFA, as in HiFormer (2603.24226; PAPERS 3.9): a composite projection of all tokens side by side, so that a logit is a product
    of two sums over all of them. W^Q, W^K and W^V `[T d, T H k]` are full with `rank` 0, else products L R of rank r, each its own.
    """

    def __init__(self, heads: int, head_width: int, rank: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads, self.head_width, self.rank = heads, head_width, rank

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes L [T d, 3 r] and R [3, r, T H k], or W [3, T d, T H k]; biases [3, 1, T H k]; W_o [H k, d]."""
        count, width, inner = int(input_shape[1]), int(input_shape[2]), self.heads * self.head_width
        first = count * width
        if self.rank:
            self.down = self.add_weight("down", shape=[first, 3 * self.rank], initializer=normal(first, 1.0))
            first = self.rank
        self.up = self.add_weight("up", shape=[3, first, count * inner], initializer=normal(first, 1.0))
        self.bias = self.add_weight("bias", shape=[3, 1, count * inner], initializer="zeros")
        self._output = tf.keras.layers.Dense(width, kernel_initializer=normal(inner, 1.0), name="output")
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """X `[N, T, d]` -> `[N, T, d]`."""
        return self.trace(tokens)["output"]

    def trace(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """The steps of `attend`, and `output` `[N, T, d]`."""
        length, width = tokens.shape[1:]
        current = tf.reshape(tokens, [-1, length * width])
        if self.rank:
            reduced = tf.matmul(current, self.down)
            current = tf.transpose(tf.reshape(reduced, [-1, 3, self.rank]), [1, 0, 2])
        joint = tf.matmul(current, self.up) + self.bias
        parts = tf.reshape(joint, [3, -1, length, self.heads, self.head_width])
        steps = attend(*tf.unstack(tf.transpose(parts, [0, 1, 3, 2, 4])))
        return {**steps, "output": self._output(steps["read"])}

    def multiply_adds(self, length: int, width: int) -> int:
        """Of one row: 3 T d r + 3 r T H k, or 3 T d T H k with the full matrices, and H (T d k + 2 T^2 k)."""
        inner, first = self.heads * self.head_width, length * width
        joint = 3 * self.rank * (first + length * inner) if self.rank else 3 * first * length * inner
        return joint + inner * (first + 2 * length * length)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads, "head_width": self.head_width, "rank": self.rank}
