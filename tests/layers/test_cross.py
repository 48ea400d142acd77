"""The cross layer against TFRS, published values and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from cvr.layers.cross import Cross
from tests.layers.gradients import assert_gradients, float64


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


@pytest.mark.parametrize("rank", [0, 3])
def test_equals_the_equation(rank: int) -> None:
    first, current = (x.numpy().astype(np.float64) for x in _inputs())
    layer = Cross(rank)
    layer(_inputs())
    _randomise(layer)
    product = layer.down.numpy().astype(np.float64) @ layer.up.numpy() if rank else layer.up.numpy()
    expected = first * (current @ product + layer.bias.numpy()) + current
    np.testing.assert_allclose(layer(_inputs()), expected, rtol=1e-5, atol=1e-5)


def test_gradients() -> None:
    inputs = tuple(tf.cast(x, tf.float64) for x in _inputs())
    with float64():
        layer = Cross(2)
        layer(inputs)
    _randomise(layer)
    assert_gradients(lambda: layer(inputs), layer.trainable_variables)
