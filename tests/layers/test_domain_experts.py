"""Experts of domains against a loop over them, and the selection of each sample's own."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.domain_experts import DomainExperts, own
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import gelu

N, D, Z, E = 5, 3, 4, 6


def experts(weights: Arrays, z: np.ndarray) -> Arrays:
    """f_j(z) = W2_j gelu(W1_j z + b1_j) + b2_j."""
    count = len(weights["up"])
    hidden = np.stack([z @ weights["up"][j] + weights["up_bias"][j, 0] for j in range(count)])
    output = np.stack([gelu(hidden[j]) @ weights["down"][j] + weights["down_bias"][j, 0] for j in range(count)], axis=1)
    return {"hidden": hidden, "active": gelu(hidden), "output": output}


class TestDomainExperts(LayerCase):
    def make(self) -> DomainExperts:
        return DomainExperts(D, E)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"z": source.normal(0, 1, (N, Z))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return experts(weights, inputs["z"])


def test_own_is_a_selection_by_the_domain_even_where_others_are_not_numbers() -> None:
    values = np.random.default_rng(0).normal(0, 1, (N, D, E)).astype(np.float32)
    domain = np.array([0, 2, 1, 2, 0])
    broken = values.copy()
    broken[1, 0], broken[2, 2] = np.nan, np.inf
    tensor = tf.constant(broken)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        chosen = own(tensor, tf.constant(domain, tf.int32))
        total = tf.reduce_sum(chosen**2)
    np.testing.assert_array_equal(chosen, values[np.arange(N), domain])
    gradient = tape.gradient(total, tensor).numpy()
    others = np.arange(D) != domain[:, None]
    assert (gradient[others] == 0.0).all()
    np.testing.assert_allclose(gradient[~others], 2 * values[np.arange(N), domain], rtol=1e-6)


def test_one_row_of_values_serves_all_samples() -> None:
    rows = tf.reshape(tf.range(D * E, dtype=tf.float32), [1, D, E])
    np.testing.assert_array_equal(own(rows, tf.constant([2, 0], tf.int32)), [np.arange(2 * E, 3 * E), np.arange(E)])


def test_each_expert_starts_with_its_own_fan_in() -> None:
    tf.random.set_seed(0)
    layer = DomainExperts(20, 60)
    layer(tf.ones([1, 100]))
    np.testing.assert_allclose([layer.up.numpy().var(), layer.up.numpy()[3].var()], 2 / 100, rtol=0.06)
    np.testing.assert_allclose(layer.down.numpy().var(), 1 / 60, rtol=0.06)
    assert layer.multiply_adds(100) == 20 * (100 * 60 + 60 * 60)
