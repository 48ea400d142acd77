"""Gradients of layers against finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tensorflow as tf


@contextmanager
def float64() -> Iterator[None]:
    """Layers made inside compute in float64."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("float64")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def assert_gradients(make: Callable[[], tf.Tensor], variables: Sequence[tf.Variable], places: int = 4) -> None:
    """The tape's gradient of a fixed random mix of `make()` equals central differences at a few random numbers of each variable."""
    source = np.random.default_rng(3)
    mix = source.normal(0, 1, make().shape)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(make() * mix)
    assert total.dtype == tf.float64
    for variable, gradient in zip(variables, tape.gradient(total, variables), strict=True):
        slopes, values = tf.convert_to_tensor(gradient).numpy(), variable.numpy()
        for _ in range(places):
            place = tuple(int(source.integers(n)) for n in values.shape)
            sums = []
            for step in (1e-6, -1e-6):
                moved = np.array(values)
                moved[place] += step
                variable.assign(moved)
                sums.append(float(tf.reduce_sum(make() * mix)))
            variable.assign(values)
            assert abs((sums[0] - sums[1]) / 2e-6 - slopes[place]) < 1e-6 * max(1.0, abs(slopes[place])), variable.name
