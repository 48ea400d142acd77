"""From tokens to one vector."""

from __future__ import annotations

import tensorflow as tf

POOLINGS = ("mean", "flatten")


def pool(tokens: tf.Tensor, kind: str) -> tf.Tensor:
    """`[N, T, d]` -> `[N, d]`, the mean over the tokens, or `[N, T d]`, all of them side by side."""
    if kind == "mean":
        return tf.reduce_mean(tokens, axis=1)
    return tf.reshape(tokens, [-1, tokens.shape[1] * tokens.shape[2]])


def pooled_width(kind: str, tokens: int, width: int) -> int:
    """Width of what `pool` gives."""
    return width if kind == "mean" else tokens * width
