"""MMoE: a float64 reference, and the cases in which it must become something simpler."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.mmoe import MMoE
from tests.layers.gradients import assert_gradients, float64


def _inputs(dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(0, 1, (9, 5)), dtype)


def _build(experts: int, tower: int, dtype: tf.DType = tf.float32) -> MMoE:
    layer = MMoE(tasks=2, experts=experts, expert_width=4, tower_width=tower)
    layer(_inputs(dtype))
    source = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(source.normal(0, 0.8, variable.shape))
    return layer


def _experts(layer: MMoE) -> np.ndarray:
    """f_e(x) in float64 `[N, E, W]`."""
    x = _inputs().numpy().astype(np.float64)
    hidden = np.maximum(x @ layer._experts.kernel.numpy() + layer._experts.bias.numpy(), 0.0)
    return hidden.reshape(len(x), layer.experts, layer.expert_width)


def _gates(layer: MMoE) -> np.ndarray:
    """softmax_e(W_t x) in float64 `[N, T, E]`."""
    logits = _inputs().numpy().astype(np.float64) @ layer._gates.kernel.numpy()
    powers = np.exp(logits.reshape(-1, layer.tasks, layer.experts))
    return powers / powers.sum(axis=2, keepdims=True)


def _head(layer: MMoE, mixed: list[np.ndarray]) -> np.ndarray:
    """h_t of each task's mixture `[N, W]`."""
    out = []
    for task, hidden in enumerate(mixed):
        if layer.tower_width:
            hidden = np.maximum(hidden @ layer.tower_kernel.numpy()[task] + layer.tower_bias.numpy()[task], 0.0)
        out.append(hidden @ layer.logit_kernel.numpy()[task])
    return np.stack(out, axis=1)


@pytest.mark.parametrize("tower", [0, 3])
@pytest.mark.parametrize("experts", [1, 3])
def test_equals_the_equations(experts: int, tower: int) -> None:
    layer = _build(experts, tower)
    outputs, gates = _experts(layer), _gates(layer)
    mixed = [sum(gates[:, task, e, None] * outputs[:, e] for e in range(experts)) for task in range(2)]
    np.testing.assert_allclose(layer(_inputs()), _head(layer, mixed), rtol=1e-4, atol=1e-5)


def test_one_expert_is_a_shared_bottom() -> None:
    layer = _build(1, 3)
    np.testing.assert_allclose(layer(_inputs()), _head(layer, [_experts(layer)[:, 0]] * 2), rtol=1e-4, atol=1e-5)


def test_equal_gates_average_the_experts() -> None:
    layer = _build(3, 3)
    layer._gates.kernel.assign(tf.zeros_like(layer._gates.kernel))
    np.testing.assert_allclose(layer(_inputs()), _head(layer, [_experts(layer).mean(axis=1)] * 2), rtol=1e-4, atol=1e-5)


def test_gates_sum_to_one_over_the_experts() -> None:
    gates = _build(3, 0).gates(_inputs()).numpy()
    assert gates.shape == (9, 2, 3)
    np.testing.assert_allclose(gates.sum(axis=2), 1.0, rtol=1e-6)
    assert np.abs(gates[:, 0] - gates[:, 1]).max() > 0.01  # each task has its own


def test_no_bias_that_the_softmax_cannot_see() -> None:
    """Gates and logits have none: no variable is left without gradient by the listwise loss."""
    names = [variable.name.split("/")[-1] for variable in _build(2, 3).trainable_variables]
    assert sorted(names) == sorted(
        ["tower_kernel:0", "tower_bias:0", "logit_kernel:0", "kernel:0", "bias:0", "kernel:0"]
    )


def test_gradients() -> None:
    with float64():
        layer = _build(3, 3, tf.float64)
    assert_gradients(lambda: layer(_inputs(tf.float64)), layer.trainable_variables)
