"""The MaskNet block against its equations in float64, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.mask_block import MaskBlock
from tests.layers.gradients import assert_gradients, float64


def _inputs(dtype: tf.DType = tf.float32) -> tuple[tf.Tensor, tf.Tensor]:
    source = np.random.default_rng(0)
    return tf.constant(source.normal(0, 1, (7, 4)), dtype), tf.constant(source.normal(0, 1, (7, 5)), dtype)


def _build(layer_norm: bool = True, dtype: tf.DType = tf.float32) -> MaskBlock:
    layer = MaskBlock(width=3, aggregation=8, layer_norm=layer_norm)
    layer(_inputs(dtype))
    source = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(source.normal(0, 0.7, variable.shape))
    return layer


def _reference(layer: MaskBlock, first: np.ndarray, current: np.ndarray) -> np.ndarray:
    """ReLU(LN(W (mask * x) + b)), mask = U ReLU(V x0 + b1) + b2."""

    def dense(part: tf.keras.layers.Dense, x: np.ndarray) -> np.ndarray:
        return x @ part.kernel.numpy().astype(np.float64) + part.bias.numpy()

    mask = dense(layer._mask, np.maximum(dense(layer._aggregate, first), 0.0))
    hidden = dense(layer._output, mask * current)
    if layer._norm is not None:
        mean, variance = hidden.mean(axis=1, keepdims=True), hidden.var(axis=1, keepdims=True)
        hidden = (hidden - mean) / np.sqrt(variance + layer._norm.epsilon)
        hidden = hidden * layer._norm.gamma.numpy() + layer._norm.beta.numpy()
    return np.maximum(hidden, 0.0)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_equals_the_equations(layer_norm: bool) -> None:
    layer = _build(layer_norm)
    first, current = (x.numpy().astype(np.float64) for x in _inputs())
    output = layer(_inputs()).numpy()
    np.testing.assert_allclose(output, _reference(layer, first, current), rtol=1e-4, atol=1e-5)
    assert (output == 0).any() and (output > 0).any()
    assert len(layer.trainable_variables) == (8 if layer_norm else 6)


def test_the_mask_is_not_squashed() -> None:
    """Twice the mask's last layer gives twice the output without norm, as no sigmoid or softmax stands between."""
    layer = _build(layer_norm=False)
    layer._output.bias.assign(tf.zeros_like(layer._output.bias))
    before = layer(_inputs()).numpy()
    for variable in (layer._mask.kernel, layer._mask.bias):
        variable.assign(2.0 * variable)
    np.testing.assert_allclose(layer(_inputs()), 2.0 * before, rtol=1e-5)


def test_the_mask_reads_the_first_input_alone() -> None:
    layer = _build(layer_norm=False)
    layer._output.bias.assign(tf.zeros_like(layer._output.bias))
    first, current = _inputs()
    np.testing.assert_allclose(layer((first, 3.0 * current)), 3.0 * layer((first, current)).numpy(), rtol=1e-5)


def test_gradients() -> None:
    with float64():
        layer = _build(dtype=tf.float64)
    assert_gradients(lambda: layer(_inputs(tf.float64)), layer.trainable_variables)
