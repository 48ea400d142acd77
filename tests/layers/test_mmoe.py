"""MMoE against its equations, step by step, and the cases in which it must become something simpler."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.mmoe import MMoE, gate_use
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, relu, softmax


def _reference(weights: Arrays, x: np.ndarray, tasks: int, width: int, tower: bool) -> Arrays:
    experts = relu(dense(weights, "experts", x)).reshape(len(x), -1, width)
    gates = softmax((x @ weights["gates/kernel"]).reshape(len(x), tasks, -1))
    mixed = np.stack([sum(gates[:, t, e, None] * experts[:, e] for e in range(experts.shape[1])) for t in range(tasks)], axis=1)
    hidden = mixed
    if tower:
        kernels, biases = weights["tower_kernel"], weights["tower_bias"]
        hidden = np.stack([relu(mixed[:, t] @ kernels[t] + biases[t]) for t in range(tasks)], axis=1)
    output = (hidden * weights["logit_kernel"]).sum(axis=2) + weights.get("logit_bias", 0.0)
    return {"experts": experts, "gates": gates, "mixed": mixed, "tower": hidden, "output": output}


class TestMMoE(LayerCase):
    tower, bias = 5, False
    mixed_output = tf.float32

    def make(self) -> MMoE:
        return MMoE(tasks=2, experts=3, expert_width=4, tower_width=self.tower, logit_bias=self.bias)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"x": source.normal(0, 1, (7, 6))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """z_t = v_t . ReLU(T_t sum_e softmax(W_t x)_e f_e(x) + b_t) + c_t."""
        return _reference(weights, inputs["x"], 2, 4, bool(self.tower))

    def test_logits_are_not_rounded_to_bfloat16(self) -> None:
        logits = self._run(self.build("mixed_bfloat16"), self.stored("inputs"), tf.bfloat16)
        assert np.all(tf.cast(tf.cast(logits, tf.bfloat16), tf.float32) != logits)

    def test_gates_sum_to_one_over_the_experts(self) -> None:
        gates = self.build().trace(*self._tensors(self.stored("inputs"), np.float32))["gates"].numpy()
        np.testing.assert_allclose(gates.sum(axis=2), 1.0, rtol=1e-6)
        assert np.abs(gates[:, 0] - gates[:, 1]).max() > 0.01  # each task has its own


class TestMMoEWithoutTowerWithBias(TestMMoE):
    tower, bias = 0, True


def _inputs() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(0, 1, (9, 5)), tf.float32)


def _build(experts: int) -> MMoE:
    layer = MMoE(tasks=2, experts=experts, expert_width=4, tower_width=3)
    layer(_inputs())
    source = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(source.normal(0, 0.8, variable.shape))
    return layer


def _towers_on(layer: MMoE, shared: np.ndarray) -> np.ndarray:
    """Plain networks: each task's tower and logit on one shared input `[N, W]`, in float64."""
    hidden = [relu(shared @ layer.tower_kernel.numpy()[t] + layer.tower_bias.numpy()[t]) for t in range(2)]
    return np.stack([hidden[t] @ layer.logit_kernel.numpy()[t] for t in range(2)], axis=1)


def test_one_expert_is_a_plain_tower_network() -> None:
    layer = _build(1)
    bottom = relu(_inputs().numpy() @ layer._experts.kernel.numpy().astype(np.float64) + layer._experts.bias.numpy())
    np.testing.assert_allclose(layer(_inputs()), _towers_on(layer, bottom), rtol=1e-5, atol=1e-5)


def test_equal_gates_are_the_mean_of_the_experts() -> None:
    layer = _build(3)
    layer._gates.kernel.assign(tf.zeros_like(layer._gates.kernel))
    experts = layer.trace(_inputs())["experts"].numpy().astype(np.float64)
    np.testing.assert_allclose(layer(_inputs()), _towers_on(layer, experts.mean(axis=1)), rtol=1e-5, atol=1e-5)


def test_experts_that_move_with_their_gates_change_nothing() -> None:
    layer, order = _build(3), [2, 0, 1]
    before = layer(_inputs()).numpy()
    for variable, shape in ((layer._experts.kernel, [5, 3, 4]), (layer._experts.bias, [3, 4])):
        variable.assign(tf.reshape(tf.gather(tf.reshape(variable, shape), order, axis=-2), variable.shape))
    moved = layer(_inputs()).numpy()
    assert np.abs(moved - before).max() > 0.01
    gates = layer._gates.kernel
    gates.assign(tf.reshape(tf.gather(tf.reshape(gates, [5, 2, 3]), order, axis=-1), gates.shape))
    np.testing.assert_allclose(layer(_inputs()), before, rtol=1e-5, atol=1e-5)


def test_no_bias_that_the_softmax_cannot_see() -> None:
    """Gates and logits have none unless asked: no variable is left without gradient by the listwise loss."""
    names = sorted(variable.name.split("/", 1)[-1] for variable in _build(2).trainable_variables)
    assert names == ["experts/bias:0", "experts/kernel:0", "gates/kernel:0", "logit_kernel:0", "tower_bias:0", "tower_kernel:0"]


def test_a_bias_moves_each_task_by_its_own_constant() -> None:
    layer = MMoE(tasks=2, experts=2, expert_width=4, logit_bias=True)
    before = layer(_inputs()).numpy()
    layer.logit_bias.assign([1.5, -2.0])
    np.testing.assert_allclose(layer(_inputs()).numpy() - before, np.tile([1.5, -2.0], (9, 1)), atol=1e-5)


def test_gates_come_with_the_logits() -> None:
    layer = _build(3)
    logits, gates = layer(_inputs(), with_gates=True)
    np.testing.assert_array_equal(logits, layer(_inputs()))
    np.testing.assert_array_equal(gates, layer.trace(_inputs())["gates"])


def test_gate_use_leaves_padding_out() -> None:
    """Equal gates have entropy log E, a single expert 0; by hand for weights 1/4 and 3/4."""
    equal, single, odd = [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0], [0.25, 0.75, 0.0]
    gates = tf.constant([[equal, single], [single, odd], [odd, odd]], tf.float32)
    found = gate_use(gates, tf.constant([1.0, 1.0, 0.0])).numpy()
    mixed = 0.25 * np.log(4) + 0.75 * np.log(4 / 3)
    np.testing.assert_allclose(found[:, 0], [np.log(3) / 2, mixed / 2], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1:], [[1 / 6, 2 / 3, 1 / 6], [0.125, 0.875, 0.0]], rtol=1e-5)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_gate_use_of_no_item_is_zero(dtype: tf.DType) -> None:
    assert not gate_use(tf.ones([2, 1, 3], dtype) / 3, tf.zeros([2])).numpy().any()
