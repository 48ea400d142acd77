"""The gate between two views against its equation."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.dual_alignment import DualAlignment
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import relu
from tests.layers.unified import gate


class TestDualAlignment(LayerCase):
    def make(self) -> DualAlignment:
        return DualAlignment()

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"pooled": source.normal(0, 1, (4, 3, 8))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return {"reduced": relu(inputs["pooled"] @ weights["reduce/kernel"]), "output": gate(weights, inputs["pooled"])}


def test_exchanged_branches_exchange_the_shares() -> None:
    layer, pooled = TestDualAlignment().build(), tf.constant(np.random.default_rng(1).normal(0, 1, (3, 8)), tf.float32)
    before = layer(pooled).numpy()
    first, second = np.split(layer._branches.kernel.numpy(), 2, axis=1)
    layer._branches.kernel.assign(np.concatenate([second, first], axis=1))
    np.testing.assert_allclose(layer(pooled), 1.0 - before, rtol=1e-5, atol=1e-6)


def test_multiply_adds() -> None:
    """5 vectors of 8: 8 -> 2 -> 16; a width below 4 keeps one channel."""
    assert DualAlignment.multiply_adds(5, 8) == 5 * (8 * 2 + 2 * 16)
    assert DualAlignment.multiply_adds(1, 3) == 3 + 6
