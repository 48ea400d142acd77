"""DREF against its equations; the domain alone routes, and other domains' experts get a gradient of exactly 0."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.domain_routing import DomainRouting
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, softmax

N, D, Z, E = 6, 3, 4, 5
DOMAIN = np.array([0, 2, 1, 1, 0, 2], np.int32)


class TestDomainRouting(LayerCase):
    def make(self) -> DomainRouting:
        return DomainRouting()

    def inputs(self, source: np.random.Generator) -> Arrays:
        shapes = {"z": (N, Z), "shared": (N, E), "experts": (N, D, E)}
        return {**{name: source.normal(0, 1, shape) for name, shape in shapes.items()}, "domain": DOMAIN}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """e = a_s f_s(z) + a_d f_d(z), sample by sample."""
        gates = softmax(dense(weights, "gate", inputs["z"]))
        own = np.stack([inputs["experts"][n, d] for n, d in enumerate(inputs["domain"])])
        return {"gates": gates, "own": own, "output": gates[:, :1] * inputs["shared"] + gates[:, 1:] * own}


def _inputs() -> dict[str, tf.Tensor]:
    found = TestDomainRouting().inputs(np.random.default_rng(1))
    return {name: tf.constant(value, tf.float32 if value.dtype.kind == "f" else tf.int32) for name, value in found.items()}


def test_what_the_sample_says_moves_its_weights_but_never_its_expert() -> None:
    """No soft routing: however z changes, the output lies between f_s and the own domain's expert."""
    layer, inputs = TestDomainRouting().build(), _inputs()
    for seed in range(5):
        z = tf.constant(np.random.default_rng(seed).normal(0, 3, (N, Z)), tf.float32)
        steps = layer.trace((z, inputs["shared"], inputs["experts"], inputs["domain"]))
        np.testing.assert_array_equal(steps["own"], inputs["experts"].numpy()[np.arange(N), DOMAIN])
        share = ((steps["output"] - inputs["shared"]) / (steps["own"] - inputs["shared"])).numpy()
        np.testing.assert_allclose(share, np.broadcast_to(steps["gates"][:, 1:], share.shape), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(tf.reduce_sum(steps["gates"], axis=1), 1.0, rtol=1e-6)


def test_other_domains_get_a_gradient_of_exactly_0() -> None:
    layer, inputs = TestDomainRouting().build(), _inputs()
    with tf.GradientTape() as tape:
        tape.watch([inputs["experts"], inputs["shared"]])
        total = tf.reduce_sum(layer(tuple(inputs.values())) ** 2)
    experts, shared = (gradient.numpy() for gradient in tape.gradient(total, [inputs["experts"], inputs["shared"]]))
    others = np.arange(D) != DOMAIN[:, None]
    assert (experts[others] == 0.0).all() and (experts[~others] != 0.0).all() and (shared != 0.0).all()
