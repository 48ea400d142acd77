"""The norm by the root mean square against its equation, with epsilon inside the root and outside."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.rms_norm import RMSNorm
from tests.layers.case import Arrays, LayerCase


def rms_norm(gamma: np.ndarray, x: np.ndarray, epsilon: float = 1e-5, outside: bool = False) -> np.ndarray:
    """gamma x over the root of mean x^2, epsilon added inside the root or outside."""
    square = (x**2).mean(axis=-1, keepdims=True)
    return gamma * x / (np.sqrt(square) + epsilon if outside else np.sqrt(square + epsilon))


class TestRMSNorm(LayerCase):
    outside, epsilon = False, 1e-2  # large enough to be seen

    def make(self) -> RMSNorm:
        return RMSNorm(self.epsilon, self.outside)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"x": source.normal(0, 0.3, (4, 3, 5))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        x = inputs["x"]
        square = (x**2).mean(axis=-1, keepdims=True)
        return {"square": square, "output": rms_norm(weights["gamma"], x, self.epsilon, self.outside)}


class TestRMSNormOutside(TestRMSNorm):
    outside = True


@pytest.mark.parametrize("outside", [False, True])
def test_scale_and_zero(outside: bool) -> None:
    """A factor on all inputs changes nothing but for epsilon; zeros give zeros, and finite gradients."""
    layer = RMSNorm(1e-6, outside)
    x = tf.constant(np.random.default_rng(1).normal(0, 1, (4, 8)), tf.float32)
    np.testing.assert_allclose(layer(1000.0 * x), layer(x), rtol=1e-4, atol=1e-5)
    zeros = tf.zeros([2, 8])
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        output = layer(zeros)
    assert not np.any(output) and np.isfinite(tape.gradient(output, zeros)).all()
