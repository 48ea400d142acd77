"""The input projection equals one dense layer on the concatenation of context and item features."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.projection import InputProjection

INDEX = [0, 0, 1, 2, 2]


def _inputs() -> tuple[tf.Tensor, tf.Tensor]:
    source = np.random.default_rng(0)
    return tf.constant(source.normal(0, 1, (3, 4)), tf.float32), tf.constant(source.normal(0, 1, (5, 6)), tf.float32)


@pytest.fixture
def layer() -> InputProjection:
    made = InputProjection({"cross": 7, "deep": 2})
    made(_inputs(), list_index=tf.constant(INDEX))
    made.bias.assign(np.linspace(-1, 1, 9))
    return made


def test_equals_one_dense_layer(layer: InputProjection) -> None:
    context, items = (x.numpy().astype(np.float64) for x in _inputs())
    kernel = np.concatenate([layer.context_kernel.numpy(), layer.item_kernel.numpy()])
    joined = np.concatenate([context[INDEX], items], axis=1)
    expected = np.maximum(joined @ kernel + layer.bias.numpy(), 0.0)
    views = layer(_inputs(), list_index=tf.constant(INDEX))
    assert list(views) == ["cross", "deep"]
    np.testing.assert_allclose(views["cross"], expected[:, :7], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(views["deep"], expected[:, 7:], rtol=1e-4, atol=1e-5)


def test_in_two_steps_and_for_one_list(layer: InputProjection) -> None:
    context, items = _inputs()
    whole = layer((context, items), list_index=tf.constant(INDEX))
    one = layer.finish(layer.project_context(context)[:1], items[:2])
    for name, view in one.items():
        np.testing.assert_allclose(view, whole[name][:2], rtol=1e-5, atol=1e-6)


def test_initial_spread_is_that_of_the_concatenation() -> None:
    """He normal over both inputs: the two kernels differ, with a standard deviation of sqrt(2 / (context + item))."""
    tf.random.set_seed(0)
    layer = InputProjection({"cross": 300})
    layer.build((tf.TensorShape([None, 100]), tf.TensorShape([None, 100])))
    for kernel in (layer.context_kernel.numpy(), layer.item_kernel.numpy()):
        assert kernel.std() == pytest.approx(0.1, rel=0.02) and abs(kernel.mean()) < 0.005
    assert abs(np.corrcoef(layer.context_kernel.numpy().ravel(), layer.item_kernel.numpy().ravel())[0, 1]) < 0.05
