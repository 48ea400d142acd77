"""The numbers that a ranker computes with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

PRECISIONS = ("float32", "mixed_bfloat16")


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Keras layers made inside compute in float32, or in bfloat16 on float32 weights; a layer keeps what it was made with.

    What a ranker must not lose stays in float32: raw numbers, sums over bags, logits, losses, gradients of weights, optimizer state.
    """
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
