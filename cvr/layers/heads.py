"""The heads of an attention: a vector cut into equal parts."""

from __future__ import annotations

import tensorflow as tf


def split_heads(tokens: tf.Tensor, heads: int) -> tf.Tensor:
    """`[R, L, H w]` -> `[R, H, L, w]`."""
    length, width = tokens.shape[1:]
    return tf.transpose(tf.reshape(tokens, [-1, length, heads, width // heads]), [0, 2, 1, 3])


def merge_heads(tokens: tf.Tensor) -> tf.Tensor:
    """`[R, H, L, w]` -> `[R, L, H w]`."""
    heads, length, width = tokens.shape[1:]
    return tf.reshape(tf.transpose(tokens, [0, 2, 1, 3]), [-1, length, heads * width])


def masked_softmax(logits: tf.Tensor, visible: tf.Tensor) -> tf.Tensor:
    """Over the last axis, exactly 0 where `visible` (bool, of a shape that fits) is not, also in a row without anything visible."""
    shown = tf.where(visible, logits, tf.constant(-1e9, logits.dtype))
    return tf.nn.softmax(shown) * tf.cast(visible, logits.dtype)


def check_heads(width: int, heads: int) -> int:
    """Width of a head. Raises ValueError where the heads do not divide the width."""
    if heads < 1 or width % heads:
        raise ValueError(f"heads, {heads}, must divide the width, {width}")
    return width // heads
