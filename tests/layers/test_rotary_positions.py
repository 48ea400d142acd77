"""Rotary positions against their equation, and that scores depend on differences of places alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.rotary_positions import RotaryPositions
from tests.layers.case import Arrays, LayerCase


def rotate(x: np.ndarray, first: int = 0, theta: float = 1e4) -> Arrays:
    """Pair i of a vector at place p, as a complex number, times exp(j p theta^(-2i/c))."""
    length, width = x.shape[-2:]
    angles = np.array([[place * theta ** (-2 * i / width) for i in range(width // 2)] for place in range(first, first + length)])
    turned = (x[..., : width // 2] + 1j * x[..., width // 2 :]) * np.exp(1j * angles)
    return {"angles": angles, "output": np.concatenate([turned.real, turned.imag], axis=-1)}


class TestRotaryPositions(LayerCase):
    def make(self) -> RotaryPositions:
        return RotaryPositions(theta=100.0)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"x": source.normal(0, 1, (4, 2, 5, 6))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return rotate(inputs["x"], theta=100.0)


def test_scores_depend_on_differences_of_places() -> None:
    """And on nothing else: 3 to 1 scores as 203 to 201, and unlike 3 to 2; lengths stay."""
    layer, source = RotaryPositions(), np.random.default_rng(0)
    query, key = (tf.constant(source.normal(0, 1, (1, 8)), tf.float64) for _ in range(2))

    def score(first: int, second: int) -> float:
        return float(tf.reduce_sum(RotaryPositions(dtype="float64")(query, first) * RotaryPositions(dtype="float64")(key, second)))

    assert score(3, 1) == pytest.approx(score(203, 201), abs=1e-9)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    assert score(7, 7) == pytest.approx(float(tf.reduce_sum(query * key)), abs=1e-9)
    tokens = tf.constant(source.normal(0, 1, (2, 9, 8)), tf.float32)
    np.testing.assert_allclose(tf.norm(layer(tokens), axis=-1), tf.norm(tokens, axis=-1), rtol=1e-5)


def test_an_odd_width() -> None:
    with pytest.raises(ValueError, match="heads of width 3 do not come in pairs"):
        RotaryPositions()(tf.zeros([1, 2, 3]))
