"""HHSFT: its parts in order, what each factor switches, and that a sample trains no other domain's expert."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.hhsft import Backbone, Config
from cvr.tracing import without_memory
from tests.layers.case import weights_of
from tests.layers.references import dense, norm, softmax
from tests.layers.test_domain_attention import attend
from tests.layers.test_domain_experts import experts
from tests.layers.test_fusion_block import fuse
from tests.layers.test_global_attention import composite
from tests.layers.test_heterogeneous_attention import heterogeneous
from tests.profiler import products_of

SMALL = {"model_width": 4, "tokens": 3, "layers": 2, "heads": 2, "ffn_width": 5, "global_rank": 5, "domain_width": 5, "gate_width": 4}
SWITCHES = [{"domain_experts": a, "domain_attention": b} for a, b in itertools.product((True, False), repeat=2)]
DOMAIN = np.array([0, 2, 1, 1, 0, 2], np.int32)


def _views(domain: np.ndarray = DOMAIN) -> dict[str, tf.Tensor]:
    source = np.random.default_rng(0)
    return {
        "tokens": tf.constant(source.random((len(domain), 12)), tf.float32),
        "gate": tf.constant(source.random((len(domain), 4)), tf.float32),
        "domain": tf.constant(domain, tf.int32),
    }


def _build(domains: int = 3, **factors: object) -> Backbone:
    """With random weights, the larger ones of the parts that come last."""
    backbone = Backbone(Config(**{**SMALL, **factors}), domains=domains)
    backbone(_views())
    source = np.random.default_rng(1)
    for variable in backbone.trainable_variables:
        variable.assign(source.normal(1.0 if "gamma" in variable.name else 0.0, 0.4, variable.shape))
    return backbone


def _inside(weights: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(name + "/"): value for key, value in weights.items() if key.startswith(name + "/")}


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("pooling", ["flatten", "mean"])
def test_equals_the_equations(switches: dict[str, bool], pooling: str) -> None:
    backbone, views = _build(**switches, pooling=pooling), _views()
    weights = {name: variable.numpy().astype(np.float64) for name, variable in weights_of(backbone).items()}
    reader = views["gate"].numpy().astype(np.float64)
    tokens = dense(weights, "tokens/last", views["tokens"].numpy().astype(np.float64)).reshape(6, 3, 4)
    for name, kind in (("heterogeneous_0", heterogeneous), ("heterogeneous_1", heterogeneous), ("global_0", composite)):
        tokens = fuse(_inside(weights, name), tokens, kind)["output"]
    tokens = norm(weights, "norm", tokens)
    z = tokens.reshape(6, 12) if pooling == "flatten" else tokens.mean(axis=1)
    expected = experts(_inside(weights, "shared_expert"), z)["output"][:, 0]
    every = experts(_inside(weights, "domain_experts"), z)["output"] if any(switches.values()) else None
    if switches["domain_experts"]:
        gates = softmax(dense(_inside(weights, "domain_routing"), "gate", z))
        expected = gates[:, :1] * expected + gates[:, 1:] * every[np.arange(6), DOMAIN]
    if switches["domain_attention"]:
        inputs = {"experts": every, "reader": reader, "domain": DOMAIN}
        expected = expected + attend(_inside(weights, "domain_attention"), inputs)["output"]
    found = backbone(views)
    assert found.shape == (6, backbone.width)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("switches", SWITCHES[:3])
def test_a_batch_of_one_domain_gives_the_others_experts_a_gradient_of_exactly_0(switches: dict[str, bool]) -> None:
    backbone = _build(**switches)
    mix = tf.constant(np.random.default_rng(3).normal(0, 1, (6, backbone.width)), tf.float32)
    for d in range(3):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(backbone(_views(np.full(6, d, np.int32))) * mix)
        variables = backbone.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(total, variables), strict=True):
            values = tf.convert_to_tensor(gradient).numpy()
            if "domain_experts/" in variable.name or "gate_bias" in variable.name:
                values = np.moveaxis(values, 1 if "gate_bias" in variable.name else 0, 0)
                assert (values[np.arange(3) != d] == 0.0).all(), variable.name
                values = values[d]
            assert np.abs(values).max() > 1e-7, variable.name


def test_without_both_the_domain_means_nothing_and_no_domain_has_weights() -> None:
    backbone, views = _build(**SWITCHES[3]), _views()
    assert "gate" not in backbone.views and not Config(**SMALL, **SWITCHES[3]).routes_by_domain
    assert not [v.name for v in backbone.trainable_variables if "domain" in v.name]
    np.testing.assert_array_equal(backbone(views), backbone({"tokens": views["tokens"]}))


@pytest.mark.parametrize("switches", SWITCHES[:3])
def test_the_domain_moves_the_output(switches: dict[str, bool]) -> None:
    backbone = _build(**switches)
    outputs = [backbone(_views(np.full(6, d, np.int32))).numpy() for d in range(3)]
    assert min(np.abs(one - other).max() for one, other in itertools.combinations(outputs, 2)) > 1e-3


def test_with_one_domain_the_shared_and_its_own_expert_remain() -> None:
    """And DREF alone is, for samples of the target domain, what it is beside any number of other domains."""
    one, three = _build(1, domain_attention=False), _build(3, domain_attention=False)
    for mine, other in zip(one.trainable_variables, three.trainable_variables, strict=True):
        mine.assign(other[:1] if "domain_experts/" in mine.name else other)
    views = _views(np.zeros(6, np.int32))
    np.testing.assert_allclose(one({"tokens": views["tokens"]}), three(views), rtol=1e-5, atol=1e-5)
    assert "domain_attention/query/kernel" not in weights_of(_build(1))


@pytest.mark.parametrize("domains", [1, 2, 3])
@pytest.mark.parametrize("switches", SWITCHES)
def test_multiply_adds_are_what_the_profiler_counts(domains: int, switches: dict[str, bool]) -> None:
    backbone = Backbone(Config(**{**SMALL, "global_rank": 0 if domains == 3 else 5}, **switches), domains=domains)
    specs = {name: tf.TensorSpec([1, width]) for name, width in backbone.views.items()} | {"domain": tf.TensorSpec([1], tf.int32)}
    with without_memory():
        graph = tf.function(backbone, autograph=False).get_concrete_function(specs).graph
    assert products_of(graph) == 2 * backbone.multiply_adds() == 2 * sum(backbone.parts().values())


def test_compiled_by_xla_the_experts_are_the_same() -> None:
    backbone, views = _build(layers=0, global_layers=0), _views()

    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            hidden = backbone(views)
            total = tf.reduce_sum(hidden**2)
        return hidden, tape.gradient(total, backbone.trainable_variables)

    (plain, gradients), (compiled, others) = step(), tf.function(step, autograph=False, jit_compile=True)()
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-5)
    for variable, one, other in zip(backbone.trainable_variables, gradients, others, strict=True):
        scale = max(1.0, float(tf.reduce_max(tf.abs(one))))
        np.testing.assert_allclose(other / scale, one / scale, atol=1e-4, err_msg=variable.name)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"heads": 0}, "heads is at least 1"),
        ({"global_rank": -1}, "global_rank is at least 0"),
        ({"domain_width": 0}, "domain_width is at least 1"),
        ({"pooling": "max"}, "pooling is mean or flatten"),
    ],
)
def test_wrong_factors(factors: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**factors)
