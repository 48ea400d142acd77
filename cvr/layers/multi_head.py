"""Scaled dot-product attention between tokens, head by head, once queries, keys and values are there."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.heads import merge_heads


def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> dict[str, tf.Tensor]:
    """softmax(Q K' / sqrt(k)) V of each head (Vaswani et al. 2017, 3.2.1), by step.

    Q, K, V `[N, H, T, k]` -> those three, `logits` and `weights` `[N, H, T, T]`, and `read` `[N, T, H k]`, the heads side by side.
    """
    logits = tf.matmul(query, key, transpose_b=True) / tf.cast(query.shape[-1], query.dtype) ** 0.5
    weights = tf.nn.softmax(logits)
    steps = {"query": query, "key": key, "value": value, "logits": logits, "weights": weights}
    return {**steps, "read": merge_heads(tf.matmul(weights, value))}
