"""Scaled dot-product attention between tokens, head by head, once queries, keys and values are there."""

from __future__ import annotations

import tensorflow as tf


def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> dict[str, tf.Tensor]:
    """softmax(Q K' / sqrt(k)) V of each head (Vaswani et al. 2017, 3.2.1), by step.

    Q, K, V `[N, H, T, k]` -> those three, `logits` and `weights` `[N, H, T, T]`, and `read` `[N, T, H k]`, the heads side by side.
    """
    heads, length, width = query.shape[1:]
    logits = tf.matmul(query, key, transpose_b=True) / tf.cast(width, query.dtype) ** 0.5
    weights = tf.nn.softmax(logits)
    read = tf.reshape(tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3]), [-1, length, heads * width])
    return {"query": query, "key": key, "value": value, "logits": logits, "weights": weights, "read": read}
