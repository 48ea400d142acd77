"""DAPGA against its equations; what its gradient goes through, and what it must not."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.domain_attention import DomainAttention
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import softmax

N, D, E, U = 6, 3, 5, 4
DOMAIN = np.array([0, 2, 1, 1, 0, 2], np.int32)


def attend(weights: Arrays, inputs: Arrays, fixed: Arrays | None = None) -> Arrays:
    """Sample by sample. Keys and values of other domains are made from `fixed` inputs and weights, which a slope leaves as they are."""
    experts, domain = inputs["experts"], inputs["domain"]
    known = fixed or {**weights, "experts": experts}
    key, value = (np.array(known["experts"] @ known[f"{name}/kernel"]) for name in ("key", "value"))
    query, logits = np.zeros((len(experts), E)), np.zeros((len(experts), D))
    for n, d in enumerate(domain):
        key[n, d], value[n, d] = (experts[n, d] @ weights[f"{name}/kernel"] for name in ("key", "value"))
        query[n] = experts[n, d] @ weights["query/kernel"]
        logits[n] = key[n] @ query[n] / np.sqrt(E)
    shares = softmax(logits)
    read = np.stack([shares[n] @ value[n] for n in range(len(experts))])
    gate = 1 / (1 + np.exp(-(inputs["reader"] @ weights["gate/kernel"] + weights["gate_bias"][0, domain])))
    return {"query": query, "key": key, "value": value, "weights": shares, "read": read, "gate": gate, "output": gate * read}


class TestDomainAttention(LayerCase):
    """The slopes of the reference hold other domains' keys and values fixed: the gradient's stop is part of the equations."""

    fixed: Arrays | None = None

    def make(self) -> DomainAttention:
        return DomainAttention(D)

    def inputs(self, source: np.random.Generator) -> Arrays:
        shapes = {"experts": (N, D, E), "reader": (N, U)}
        return {**{name: source.normal(0, 1, shape) for name, shape in shapes.items()}, "domain": DOMAIN}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return attend(weights, inputs, self.fixed)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_gradients_equal_differences_of_the_reference(self, dtype: str) -> None:
        weights = {**self.stored("weights"), "experts": self.stored("inputs")["experts"]}
        self.fixed = {name: value.copy() for name, value in weights.items()}
        super().test_gradients_equal_differences_of_the_reference(dtype)


def _inputs(domain: np.ndarray = DOMAIN) -> dict[str, tf.Tensor]:
    found = {**TestDomainAttention().inputs(np.random.default_rng(1)), "domain": domain}
    return {name: tf.constant(value, tf.float32 if value.dtype.kind == "f" else tf.int32) for name, value in found.items()}


def _gradient(layer: DomainAttention, inputs: dict[str, tf.Tensor]) -> np.ndarray:
    """Of a sum of the output, by every domain's expert."""
    mix = tf.constant(np.random.default_rng(2).normal(0, 1, (N, E)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs["experts"])
        total = tf.reduce_sum(layer(tuple(inputs.values())) * mix)
    return tape.gradient(total, inputs["experts"]).numpy()


def test_other_domains_get_a_gradient_of_exactly_0_and_the_own_one_does_not() -> None:
    gradient = _gradient(TestDomainAttention().build(), _inputs())
    others = np.arange(D) != DOMAIN[:, None]
    assert (gradient[others] == 0.0).all() and (gradient[~others] != 0.0).all()


def test_other_domains_are_read_all_the_same() -> None:
    layer, inputs = TestDomainAttention().build(), _inputs(np.zeros(N, np.int32))
    moved = {**inputs, "experts": inputs["experts"] + tf.constant([0.0, 1.0, 0.0])[None, :, None]}
    assert np.abs(layer(tuple(moved.values())) - layer(tuple(inputs.values()))).min(axis=1).max() > 1e-3


def test_the_query_is_not_cut() -> None:
    """The weights of two other domains stand as exp(q (k_1 - k_2) / sqrt(E)), which the own expert moves through the query alone."""
    layer, inputs = TestDomainAttention().build(), _inputs(np.zeros(N, np.int32))
    with tf.GradientTape() as tape:
        tape.watch(inputs["experts"])
        steps = layer.trace(tuple(inputs.values()))
        total = tf.reduce_sum(tf.math.log(steps["weights"][:, 1] / steps["weights"][:, 2]))
    gradient = tape.gradient(total, inputs["experts"]).numpy()
    expected = (steps["key"][:, 1] - steps["key"][:, 2]) @ tf.transpose(layer._maps["query"].kernel) / E**0.5
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-3, atol=1e-4)
    assert (gradient[:, 1:] == 0.0).all() and np.abs(expected).max() > 0.1


@pytest.mark.parametrize("name", ["key", "value"])
def test_the_maps_learn_from_own_keys_and_values_only(name: str) -> None:
    """Where the own expert's vector is (1, 0, .. 0), only the first row of K and of V can have a gradient: that of others is exactly 0."""
    layer, inputs = TestDomainAttention().build(), _inputs(np.zeros(N, np.int32))
    experts = tf.concat([tf.tile(tf.one_hot([[0]], E), [N, 1, 1]), inputs["experts"][:, 1:]], axis=1)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer((experts, inputs["reader"], inputs["domain"])) ** 2)
    gradient = tape.gradient(total, layer._maps[name].kernel).numpy()
    assert (gradient[1:] == 0.0).all() and np.abs(gradient[0]).max() > 1e-4


def test_the_gate_knows_the_domain() -> None:
    layer, inputs = TestDomainAttention().build(), _inputs()
    gates = [layer.trace((inputs["experts"], inputs["reader"], tf.fill([N], d)))["gate"].numpy() for d in range(D)]
    biases = layer.gate_bias.numpy()[0]
    logit = [np.log(gate / (1 - gate)) for gate in gates]
    np.testing.assert_allclose(logit[2] - logit[0], np.broadcast_to(biases[2] - biases[0], (N, E)), rtol=1e-3, atol=1e-3)


def test_one_domain_reads_its_own_value() -> None:
    layer, inputs = DomainAttention(1), _inputs(np.zeros(N, np.int32))
    alone = (inputs["experts"][:, :1], inputs["reader"], inputs["domain"])
    steps = layer.trace(alone) if layer.built else (layer(alone), layer.trace(alone))[1]
    assert set(steps) == {"value", "read", "gate", "output"}
    np.testing.assert_allclose(steps["read"], inputs["experts"][:, 0] @ layer._maps["value"].kernel, rtol=1e-5, atol=1e-6)
    assert sorted(v.name.split("/")[-2] for v in layer.trainable_variables if "kernel" in v.name) == ["gate", "value"]
    assert layer.multiply_adds(E, U) == U * E + E * E
