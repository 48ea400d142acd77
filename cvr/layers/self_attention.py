"""Multi-head self-attention over a short sequence of tokens."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.heads import masked_softmax, merge_heads
from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class SelfAttention(tf.keras.layers.Layer):
    """out = concat_h( softmax(Q_h K_h^T / sqrt(k)) V_h ) W_o + b_o,  Q_h, K_h, V_h = X W + b of width k (Vaswani et al. 2017, 3.2.2).

    A head is `head_width` k wide whatever the number of heads, as in Keras' MultiHeadAttention: the paper's FLOPs grow with the heads, so
    its k is the token width (PAPERS 1.3). Hidden tokens get no weight; where all are hidden the output is b_o.
    """

    def __init__(self, heads: int, head_width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads, self.head_width = heads, head_width

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the joint query, key and value layer [d, 3 H k] and the output layer [H k, d]."""
        width, inner = int(input_shape[-1]), self.heads * self.head_width
        self._project = tf.keras.layers.Dense(3 * inner, kernel_initializer=normal(width, 1.0), name="project")
        self._output = tf.keras.layers.Dense(width, kernel_initializer=normal(inner, 1.0), name="output")
        super().build(input_shape)

    def call(self, tokens: tf.Tensor, visible: tf.Tensor | None = None) -> tf.Tensor:
        """X `[N, L, d]`, visible bool `[N, L]` (all by default) -> `[N, L, d]`."""
        return self.trace(tokens, visible)["output"]

    def trace(self, tokens: tf.Tensor, visible: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Each step by name: `query`, `key`, `value`, `read` `[N, H, L, k]`, `logits`, `weights` `[N, H, L, L]`, `output` `[N, L, d]`."""
        joint = tf.reshape(self._project(tokens), [-1, tokens.shape[1], 3, self.heads, self.head_width])
        query, key, value = tf.unstack(tf.transpose(joint, [2, 0, 3, 1, 4]))
        logits = tf.matmul(query, key, transpose_b=True) / tf.cast(self.head_width, query.dtype) ** 0.5
        weights = tf.nn.softmax(logits) if visible is None else masked_softmax(logits, visible[:, None, None, :])
        read = tf.matmul(weights, value)
        output = self._output(merge_heads(read))
        steps = {"query": query, "key": key, "value": value, "logits": logits, "weights": weights, "read": read}
        return {**steps, "output": output}

    def multiply_adds(self, length: int, width: int) -> int:
        """Of one row: H (4 L d k + 2 L^2 k)."""
        return self.heads * self.head_width * (4 * length * width + 2 * length * length)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads, "head_width": self.head_width}
