"""Attention of an item over events of its own."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class EventAttention(tf.keras.layers.Layer):
    """Multi-head target attention: `TargetAttention` with H heads as wide as an event, over events of each item's own (PAPERS 3.11).

        a_hk = (W_q^h q) . (W_k^h e_k) / sqrt(d) + u_h . e_k + w_h m_k,   a_h,empty = 0
        head_h = sum_k softmax(a_h)_k (W_v^h e_k + m_k v_h) + softmax(a_h)_empty z_h,   out = [head_1; ...; head_H]

    m_k = 1 where event k is on the item itself. Without any real event head h gives z_h. There is no output matrix after the heads: what
    reads them is linear. Keys and values are never made: a_hk = (W_k^h' W_q^h q / sqrt(d) + u_h) . e_k, and W_v^h follows the sum over k.
    With one head this is `TargetAttention`.
    """

    def __init__(self, heads: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W_q, W_k, W_v [H, d, d], u, v, z [H, d] and w [H]."""
        self.width = width = int(input_shape[-1])
        for name in ("query_kernel", "key_kernel", "value_kernel"):
            setattr(self, name, self.add_weight(name, shape=[self.heads, width, width], initializer=normal(width, 1.0)))
        self.event_bias = self.add_weight("event_bias", shape=[self.heads, width], initializer="zeros")
        self.match_bias = self.add_weight("match_bias", shape=[self.heads], initializer="ones")
        self.match_value = self.add_weight("match_value", shape=[self.heads, width], initializer="uniform")
        self.empty = self.add_weight("empty", shape=[self.heads, width], initializer="uniform")
        super().build(input_shape)

    def call(self, queries: tf.Tensor, events: tf.Tensor, real: tf.Tensor, match: tf.Tensor) -> tf.Tensor:
        """queries `[N, d]`, events `[N, k, d]`, real and match bool `[N, k]` -> `[N, H d]`."""
        return self.trace(queries, events, real, match)["output"]

    def trace(self, queries: tf.Tensor, events: tf.Tensor, real: tf.Tensor, match: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `logits` a `[N, H, k]`, `weights`, the empty slot last, `[N, H, k + 1]`, `seen` `[N, H, d]`, `output`."""
        query = tf.einsum("nd,hde->nhe", queries, self.query_kernel)
        reader = tf.einsum("nhe,hde->nhd", query, self.key_kernel) / self.width**0.5 + self.event_bias
        matched = tf.cast(match, events.dtype)[:, None, :]
        logits = tf.matmul(reader, events, transpose_b=True) + self.match_bias[:, None] * matched
        shown = tf.where(real[:, None, :], logits, tf.constant(-1e9, logits.dtype))
        weights = tf.nn.softmax(tf.concat([shown, tf.zeros_like(shown[..., :1])], axis=-1))
        given, empty = weights[..., :-1], weights[..., -1:]
        seen = tf.matmul(given, events)
        heads = tf.einsum("nhd,hde->nhe", seen, self.value_kernel)
        heads += tf.reduce_sum(given * matched, axis=-1, keepdims=True) * self.match_value + empty * self.empty
        output = tf.reshape(heads, [-1, self.heads * self.width])
        return {"logits": logits, "weights": weights, "seen": seen, "output": output}

    def multiply_adds(self, events: int) -> int:
        """Of an item over k events: H (3 d^2 + 2 k d). Needs a built layer."""
        return self.heads * self.width * (3 * self.width + 2 * events)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads}
