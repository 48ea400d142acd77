"""Sparse experts against a loop over rows, tokens and experts; the two routers; the penalty that keeps the open share at its budget."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers import sparse_per_token_ffn
from cvr.layers.per_token_ffn import PerTokenFFN
from cvr.layers.sparse_per_token_ffn import SparsePerTokenFFN
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import gelu, relu

N, T, D, F, E = 5, 2, 4, 3, 3


class TestSparsePerTokenFFN(LayerCase):
    """At inference, every expert computed and weighed."""

    average, dispatch = False, False

    def make(self) -> SparsePerTokenFFN:
        return SparsePerTokenFFN(F, E, average=self.average, dispatch=self.dispatch)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (N, T, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """sum_j G_j (W2_j a(W1_j s + b1_j) + b2_j), term by term."""
        tokens = inputs["tokens"]
        gates = {name: np.zeros((T, N, E)) for name in ("infer", "train")}
        active, output = np.zeros((T, N, E * F)), np.zeros((N, T, D))
        for row, token in np.ndindex(N, T):
            for name, found in gates.items():
                logits = tokens[row, token] @ weights[f"{name}_kernel"][token] + weights[f"{name}_bias"][token, 0]
                found[token, row] = relu(logits) / (E if self.average else 1)
            chosen = gates["train" if "dense_rows" in inputs and inputs["dense_rows"][row] else "infer"][token, row]
            for expert in range(E):
                part = slice(expert * F, (expert + 1) * F)
                hidden = gelu(tokens[row, token] @ weights["up"][token][:, part] + weights["up_bias"][token, 0, part])
                active[token, row, part] = hidden
                value = hidden @ weights["down"][token][part] + weights["down_bias"][token, expert]
                output[row, token] += chosen[expert] * value
        steps = {"infer_gates": gates["infer"], "gates": gates["infer"], "active": active, "output": output}
        if "dense_rows" in inputs:
            steps["train_gates"] = gates["train"]
            steps["gates"] = np.where(inputs["dense_rows"][None, :, None], gates["train"], gates["infer"])
        return steps


class TestSparsePerTokenFFNDispatched(TestSparsePerTokenFFN):
    """At inference, each expert on the rows of its open gates alone."""

    average, dispatch = True, True


class TestSparsePerTokenFFNInTraining(TestSparsePerTokenFFN):
    """Some rows take the first router, the others the second."""

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {**super().inputs(source), "dense_rows": np.array([True, False, True, True, False])}

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)


def _tokens(rows: int = N) -> tf.Tensor:
    return tf.constant(np.random.default_rng(4).normal(0, 1, (rows, T, D)), tf.float32)


def test_one_expert_behind_an_open_gate_is_the_dense_network() -> None:
    sparse, dense = SparsePerTokenFFN(F, 1), PerTokenFFN(F)
    sparse(_tokens()), dense(_tokens())
    for name in ("up", "down"):
        getattr(dense, name).assign(getattr(sparse, name))
    sparse.infer_kernel.assign(tf.zeros_like(sparse.infer_kernel))
    sparse.infer_bias.assign(tf.ones_like(sparse.infer_bias))
    np.testing.assert_allclose(sparse(_tokens()), dense(_tokens()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [-10.0, 0.0, 10.0])
def test_dispatch_changes_no_number(bias: float) -> None:
    """Also where all gates are closed, and where all are open."""
    weighed, sent = TestSparsePerTokenFFN().build(), TestSparsePerTokenFFN().build()
    sent.dispatch = True
    for layer in (weighed, sent):
        layer.infer_bias.assign_add(tf.fill(layer.infer_bias.shape, bias))
    np.testing.assert_allclose(sent(_tokens()), weighed(_tokens()), rtol=1e-5, atol=1e-5)


def test_inference_never_reads_the_first_router() -> None:
    layer = TestSparsePerTokenFFN().build()
    before = layer(_tokens()).numpy()
    layer.train_kernel.assign(tf.fill(layer.train_kernel.shape, np.nan))
    np.testing.assert_array_equal(layer(_tokens()), before)


def test_the_task_reaches_both_routers_and_the_penalty_the_second_alone() -> None:
    layer = TestSparsePerTokenFFN().build()
    rows = tf.constant([True, False, True, False, True])
    with tf.GradientTape(persistent=True) as tape:
        output = tf.reduce_sum(layer(_tokens(), dense_rows=rows) ** 2)
        (penalty,) = layer.losses
    routers = [layer.train_kernel, layer.infer_kernel]
    assert [float(tf.reduce_max(tf.abs(g))) > 0 for g in tape.gradient(output, routers)] == [True, True]
    train, infer = tape.gradient(penalty, routers)
    assert train is None and float(tf.reduce_max(tf.abs(infer))) > 0


def test_the_penalty_by_hand() -> None:
    """lambda times the mean over rows of the gates' sum; lambda follows the open part and its trend, by a factor of 1.2 at most."""
    layer = SparsePerTokenFFN(F, E, active_share=0.5)
    layer(_tokens())
    assert float(layer.share) == 0.5
    layer.infer_kernel.assign(tf.zeros_like(layer.infer_kernel))
    layer.infer_bias.assign(tf.fill([T, 1, E], 2.0))
    rows = tf.zeros([N], tf.bool)
    layer(_tokens(), dense_rows=rows)  # all open: 1 is far above 0.5, and rising
    first = sparse_per_token_ffn.FIRST
    np.testing.assert_allclose(layer.losses, [first * T * E * 2.0], rtol=1e-6)
    np.testing.assert_allclose([layer.penalty, layer.share], [first * 1.2, 0.95 * 0.5 + 0.05], rtol=1e-6)
    layer.infer_bias.assign(tf.constant([[[2.0, 2.0, -1.0]], [[2.0, 2.0, -1.0]]]))
    layer.share.assign(0.7)
    layer(_tokens(), dense_rows=rows)  # two of three open, after 0.7 falling: ahead by four times the difference to the new mean
    share = 0.95 * 0.7 + 0.05 * 2 / 3
    ahead = 2 / 3 + 4 * (2 / 3 - share)
    np.testing.assert_allclose(layer.losses, [first * 1.2 * T * 2 * 2.0], rtol=1e-6)
    np.testing.assert_allclose([layer.penalty, layer.share], [first * 1.2 * 1.2 ** ((ahead - 0.5) / 0.5), share], rtol=1e-5)


def test_inference_adds_no_penalty_and_moves_no_state() -> None:
    layer = TestSparsePerTokenFFN().build()
    before = [layer.penalty.numpy(), layer.share.numpy()]
    layer(_tokens())
    assert not layer.losses and [layer.penalty.numpy(), layer.share.numpy()] == before


def test_multiply_adds() -> None:
    """Router, and half of four experts; without dispatch all four and their biases' mixture."""
    assert SparsePerTokenFFN(5, 4, active_share=0.5).multiply_adds(3, 7) == 3 * (7 * 4 + 2 * 2 * 7 * 5)
    assert SparsePerTokenFFN(5, 4, dispatch=False).multiply_adds(3, 7) == 3 * (7 * 4 + 4 * (2 * 7 * 5 + 7))
