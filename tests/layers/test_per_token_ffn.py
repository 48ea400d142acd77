"""The per-token feed-forward network against a loop over tokens."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.per_token_ffn import PerTokenFFN
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import gelu

N, T, D, F = 4, 3, 4, 5


class TestPerTokenFFN(LayerCase):
    def make(self) -> PerTokenFFN:
        return PerTokenFFN(F)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (N, T, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        hidden = np.stack([inputs["tokens"][:, t] @ weights["up"][t] + weights["up_bias"][t, 0] for t in range(T)])
        active = gelu(hidden)
        output = np.stack([active[t] @ weights["down"][t] + weights["down_bias"][t, 0] for t in range(T)], axis=1)
        return {"hidden": hidden, "active": active, "output": output}


def test_tokens_share_nothing() -> None:
    """A change of one token's input or weights moves that token's output alone."""
    layer = TestPerTokenFFN().build()
    tokens = np.random.default_rng(0).normal(0, 1, (N, T, D)).astype(np.float32)
    before = layer(tokens).numpy()
    changed = tokens.copy()
    changed[:, 1] += 1.0
    moved = np.abs(layer(changed) - before).max(axis=(0, 2)) > 0
    assert moved.tolist() == [False, True, False]
    layer.up[2].assign(layer.up[2] + 1.0)
    moved = np.abs(layer(tokens) - before).max(axis=(0, 2)) > 0
    assert moved.tolist() == [False, False, True]


def test_parameters_and_multiply_adds() -> None:
    layer = TestPerTokenFFN().build()
    assert layer.count_params() == T * (2 * D * F + F + D)
    assert layer.multiply_adds(T, D) == 2 * T * D * F


@pytest.mark.parametrize(("name", "variance"), [("up", 2 / 100), ("down", 1 / 200)])
def test_each_token_starts_with_its_own_fan_in(name: str, variance: float) -> None:
    """Keras' He normal would take the token axis for a receptive field and start sqrt(30) too small."""
    tf.random.set_seed(0)
    layer = PerTokenFFN(200)
    layer(tf.ones([1, 30, 100]))
    kernel = getattr(layer, name).numpy()
    assert kernel.var() == pytest.approx(variance, rel=0.01)
    assert kernel[3].var() == pytest.approx(variance, rel=0.05)
