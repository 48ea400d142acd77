"""The cross layer against its equation, TFRS and published values."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from cvr.layers.cross import Cross
from tests.layers.case import Arrays, LayerCase


class TestCrossFull(LayerCase):
    def make(self) -> Cross:
        return Cross(0)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"first": source.normal(0, 1, (5, 6)), "current": source.normal(0, 1, (5, 6))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """x0 * (W x + b) + x, number by number."""
        first, current = inputs["first"], inputs["current"]
        product = np.zeros_like(current)
        for row, column in np.ndindex(*product.shape):
            product[row, column] = sum(current[row] * weights["up"][:, column]) + weights["bias"][column]
        return {"product": product, "output": first * product + current}


class TestCrossLowRank(TestCrossFull):
    def make(self) -> Cross:
        return Cross(3)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """x0 * (U (V x) + b) + x."""
        reduced = inputs["current"] @ weights["down"]
        product = reduced @ weights["up"] + weights["bias"]
        return {"reduced": reduced, "product": product, "output": inputs["first"] * product + inputs["current"]}


def _inputs(width: int = 6) -> tuple[tf.Tensor, tf.Tensor]:
    source = np.random.default_rng(0)
    return tuple(tf.constant(source.normal(0, 1, (5, width)), tf.float32) for _ in range(2))  # type: ignore[return-value]


def _randomise(layer: tf.keras.layers.Layer) -> None:
    source = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(source.normal(0, 0.5, variable.shape))


@pytest.mark.parametrize("rank", [0, 3])
def test_equals_tfrs_with_the_same_kernels(rank: int) -> None:
    first, current = _inputs()
    own, peer = Cross(rank), tfrs.layers.dcn.Cross(projection_dim=rank or None)
    own((first, current)), peer(first, current)
    _randomise(own)
    if rank:  # TFRS applies `dense_u` first, though the paper calls that matrix V
        peer._dense_u.kernel.assign(own.down)
        peer._dense_v.kernel.assign(own.up)
        peer._dense_v.bias.assign(own.bias)
    else:
        peer._dense.kernel.assign(own.up)
        peer._dense.bias.assign(own.bias)
    np.testing.assert_allclose(own((first, current)), peer(first, current), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_published_values(rank: int) -> None:
    """Kernels of ones: x0 * sum(x) + x; a bias of 1 adds x0."""
    first, current = tf.constant([[0.1, 0.2, 0.3]]), tf.constant([[0.4, 0.5, 0.6]])
    layer = Cross(rank)
    layer((first, current))
    for variable in layer.trainable_variables:
        variable.assign(tf.zeros_like(variable) if variable is layer.bias else tf.ones_like(variable))
    np.testing.assert_allclose(layer((first, current)), [[0.55, 0.8, 1.05]], rtol=1e-6)
    np.testing.assert_allclose(layer((first, first)), [[0.16, 0.32, 0.48]], rtol=1e-6)
    layer.bias.assign(tf.ones_like(layer.bias))
    np.testing.assert_allclose(layer((first, current)), [[0.65, 1.0, 1.35]], rtol=1e-6)


def test_low_rank_at_full_rank_equals_the_full_matrix() -> None:
    """W = V U of rank D: any full matrix is one, with V = W and U = 1."""
    full, low = Cross(0), Cross(6)
    full(_inputs()), low(_inputs())
    _randomise(full)
    low.down.assign(full.up)
    low.up.assign(np.eye(6))
    low.bias.assign(full.bias)
    np.testing.assert_allclose(low(_inputs()), full(_inputs()), rtol=1e-6, atol=1e-6)


def test_a_projected_input_lifts_the_rank_of_the_cross_term() -> None:
    """The cross term's matrix acts on the layer's input: its rank is at most that input's width, 3 here, or the projection's, 6 (R23)."""
    source = np.random.default_rng(2)
    raw = source.normal(0, 1, (40, 3))
    projected = np.maximum(raw @ source.normal(0, 1, (3, 6)) + source.normal(0, 1, 6), 0.0)
    ranks = []
    for x in (raw, projected):
        layer, inputs = Cross(0), tf.constant(x, tf.float32)
        layer((inputs, inputs))
        _randomise(layer)
        crossed = layer.trace((inputs, inputs))["product"].numpy() - layer.bias.numpy()
        ranks.append(np.linalg.matrix_rank(crossed, tol=1e-3))
    assert ranks == [3, 6]
