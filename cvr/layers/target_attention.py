"""Attention of a candidate item over the customer's behaviour sequence."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class TargetAttention(tf.keras.layers.Layer):
    """Per candidate i with vector q_i, over history events e_k and one empty slot (dot-product target attention, cf. DIN).

        a_ik = (W_q q_i) . (W_k e_k) / sqrt(d) + u . e_k + w m_ik,   a_i,empty = 0
        out_i = sum_k softmax(a_i)_k (W_v e_k + m_ik v_match) + softmax(a_i)_empty v_empty

    m_ik = 1 where event k is on item i itself. With no event at all the output is v_empty, so an empty history needs no special case.
    """

    def __init__(self, dim: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W_q, W_k, W_v, u, w, v_match and v_empty."""
        self.width = width = int(input_shape[-1])
        for name in ("query_kernel", "key_kernel", "value_kernel"):
            setattr(self, name, self.add_weight(name, shape=[width, self.dim], initializer="glorot_uniform"))
        self.event_bias = self.add_weight("event_bias", shape=[width], initializer="zeros")
        self.match_bias = self.add_weight("match_bias", shape=[], initializer="ones")
        self.match_value = self.add_weight("match_value", shape=[self.dim], initializer="uniform")
        self.empty = self.add_weight("empty", shape=[self.dim], initializer="uniform")
        super().build(input_shape)

    def call(self, queries: tf.Tensor, events: tf.Tensor, real: tf.Tensor, match: tf.Tensor, list_index: tf.Tensor) -> tf.Tensor:
        """queries `[N, width]`, events `[B, K, width]`, real bool `[B, K]`, match bool `[N, K]`, list_index `[N]` -> `[N, dim]`."""
        return self.trace(queries, events, real, match, list_index)["output"]

    def trace(
        self, queries: tf.Tensor, events: tf.Tensor, real: tf.Tensor, match: tf.Tensor, list_index: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Each step by name: `logits` a of events `[N, K]`, `weights`, the empty slot last, `[N, K + 1]`, `seen`, `output` `[N, dim]`."""
        keys = tf.gather(tf.matmul(events, self.key_kernel), list_index)
        values = tf.gather(tf.matmul(events, self.value_kernel), list_index)
        bias = tf.gather(tf.linalg.matvec(events, self.event_bias), list_index)
        matched = tf.cast(match, events.dtype)
        logits = tf.linalg.matvec(keys, tf.matmul(queries, self.query_kernel)) / self.dim**0.5 + bias + self.match_bias * matched
        shown = tf.where(tf.gather(real, list_index), logits, tf.constant(-1e9, logits.dtype))
        weights = tf.nn.softmax(tf.concat([shown, tf.zeros_like(shown[:, :1])], axis=1))
        seen = tf.linalg.matvec(values, weights[:, :-1], transpose_a=True)
        matched_weight = tf.reduce_sum(weights[:, :-1] * matched, axis=1, keepdims=True)
        output = seen + matched_weight * self.match_value + weights[:, -1:] * self.empty
        return {"logits": logits, "weights": weights, "seen": seen, "output": output}

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events of `width`: 2 K width d for keys and values, K width for u . e_k. Needs a built layer."""
        return length * self.width * (2 * self.dim + 1)

    def item_multiply_adds(self, length: int) -> int:
        """Of an item over K events: width d for its query, 2 K d for scores and weighted values."""
        return self.width * self.dim + 2 * length * self.dim

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "dim": self.dim}
