"""Backbones are found by module name, and keep the interface that the ranker relies on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvr import backbones
from cvr.backbone_flags import factors
from cvr.errors import CvrError
from cvr.layers.mmoe import MMoE
from tests.layers.case import policy
from tests.profiler import profile

SMALL: dict[str, dict[str, Any]] = {
    "dcnv2": {"cross_width": 8, "deep_width": 6},
    "masknet": {"cross_width": 8, "deep_width": 6, "sequential_blocks": 2},
    "transformer": {"model_width": 4, "tokens": 3, "heads": 3, "ffn_width": 8},
    "rankmixer": {"model_width": 6, "tokens": 3, "ffn_width": 8},
    "wukong": {"model_width": 4, "tokens": 5, "fm_tokens": 2, "linear_tokens": 4, "fm_rank": 3, "mlp_width": 7},
    "dagfm": {"model_width": 4, "tokens": 3, "depth": 2},
    "hhsft": {"model_width": 4, "tokens": 3, "heads": 2, "ffn_width": 8, "global_rank": 5, "domain_width": 6, "gate_width": 4},
    "dhen": {
        "members": "dcnv2:cross_width=8:deep_width=6:deep_layers=2,rankmixer:model_width=6:tokens=3:ffn_width=8:layers=1",
        "layers": 2,
        "tokens": 2,
        "model_width": 4,
    },
}
MORE = [
    ("dcnv2", {"structure": "stacked", "cross_rank": 0}),
    ("masknet", {"parallel_blocks": 1, "layer_norm": False}),
    ("transformer", {"norm": "post", "pooling": "flatten", "head_width": 5, "token_layers": 0}),
    ("rankmixer", {"ffn_experts": 3, "expert_dispatch": False, "pooling": "flatten", "token_layers": 1}),
    ("wukong", {"fm_rank": 0, "mlp_layers": 0, "linear_tokens": 3, "pooling": "mean"}),
    ("dagfm", {"interaction": "inner", "readout": "states", "token_layers": 0}),
    ("hhsft", {"global_rank": 0, "pooling": "mean", "domain_attention": False, "global_layers": 2, "head_width": 3}),
    ("dhen", {"ensemble": "weighted_sum", "shortcut": False, "layer_norm": False}),
]
ALL = [*((name, {}) for name in SMALL), *MORE]


def make(name: str, **factors: object) -> tf.keras.layers.Layer:
    """A small backbone."""
    return backbones.load(name).Backbone(backbones.make_config(name, {**SMALL[name], **factors}), name="backbone")


def inputs(backbone: tf.keras.layers.Layer, rows: int = 4) -> dict[str, tf.Tensor]:
    """Views as the projection gives them: not negative."""
    source = np.random.default_rng(0)
    return {name: tf.constant(source.random((rows, width)), tf.float32) for name, width in backbone.views.items()}


def test_names() -> None:
    assert set(backbones.names()) == set(SMALL)
    assert list(backbones.names()) == sorted(backbones.names())


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_backbone_keeps_the_interface(name: str) -> None:
    """Also as a graph for any number of rows, as it is exported; rows do not see each other."""
    module = backbones.load(name)
    assert dataclasses.is_dataclass(module.Config) and module.Config.__dataclass_params__.frozen
    backbone = make(name)
    views = inputs(backbone)
    hidden = backbone(views)
    assert hidden.shape == (4, backbone.width) and hidden.dtype == tf.float32
    specs = {view: tf.TensorSpec([None, width]) for view, width in backbone.views.items()}
    graph = tf.function(backbone, autograph=False).get_concrete_function(specs)
    assert graph.structured_outputs.shape[1] == backbone.width
    order = [3, 1]
    some = graph({view: tf.gather(values, order) for view, values in views.items()})
    np.testing.assert_allclose(some, tf.gather(hidden, order), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), ALL)
def test_multiply_adds_are_what_the_profiler_counts(name: str, changes: dict[str, Any]) -> None:
    """Exactly, for matrix products; from the configuration alone, before anything is built."""
    backbone = make(name, **changes)
    counted = backbone.multiply_adds()
    assert not backbone.weights or name == "rankmixer"  # whose only variable is a counter
    assert 2 * counted == profile(backbone).products > 0


@pytest.mark.parametrize("name", sorted(SMALL))
def test_at_full_size_products_are_within_1_percent_of_all_operations(name: str) -> None:
    """Size L, which takes no memory here, since its weights are never filled."""
    backbone = backbones.load(name).Backbone(backbones.make_config(name, {}, "L"))
    assert 2 * backbone.multiply_adds() == pytest.approx(profile(backbone).operations, rel=0.01)


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in sorted(SMALL)), ("rankmixer", {"ffn_experts": 2})])
def test_bfloat16_gives_float32_logits(name: str, changes: dict[str, Any]) -> None:
    with policy("mixed_bfloat16"):
        backbone, head = make(name, **changes), MMoE(2, 2, 4)
        with tf.GradientTape() as tape:
            logits = tf.cast(head(backbone(inputs(backbone))), tf.float32)
            total = tf.reduce_sum(logits**2)
    assert np.isfinite(logits).all() and float(tf.reduce_max(tf.abs(logits))) > 0
    gradients = tape.gradient(total, backbone.trainable_variables, unconnected_gradients="zero")
    for variable, gradient in zip(backbone.trainable_variables, gradients, strict=True):
        assert variable.dtype == tf.float32 and np.isfinite(gradient).all(), variable.name


def test_unknown_backbone_and_factor_are_named() -> None:
    with pytest.raises(CvrError, match="--backbone=resnet: no such backbone; there are .*dcnv2"):
        backbones.load("resnet")
    with pytest.raises(CvrError, match="--depth does not belong to --backbone=masknet, whose factors are cross_width"):
        backbones.make_config("masknet", {"depth": 3})
    with pytest.raises(CvrError, match="--backbone=masknet: .*at least 1"):
        backbones.make_config("masknet", {"deep_width": 0})


def test_factors_left_out_keep_their_defaults() -> None:
    config = backbones.make_config("dcnv2", {"deep_width": 7, "cross_layers": None})
    assert (config.deep_width, config.cross_layers) == (7, 2)


def test_factors_of_the_same_name_share_a_flag() -> None:
    kind, users = factors()["cross_width"]
    assert kind == "int" and len(users) >= 2
    assert factors()["structure"][0] == "str" and factors()["layer_norm"][0] == "bool"


@pytest.mark.parametrize("name", sorted(SMALL))
def test_sizes_grow_and_explicit_factors_win(name: str) -> None:
    module = backbones.load(name)
    assert list(module.VARIANTS) == ["S", "M", "L", "XL"]
    configs = [backbones.make_config(name, {}, variant) for variant in module.VARIANTS]
    widths = [sum(module.Backbone(config).views.values()) for config in configs]
    costs = [module.Backbone(config).multiply_adds() for config in configs]
    assert widths == sorted(widths) and costs == sorted(costs) and costs[-1] > 100 * costs[0]
    factor, value = next(iter(module.VARIANTS["L"].items()))
    other = module.VARIANTS["S"][factor]
    assert getattr(backbones.make_config(name, {factor: other}, "L"), factor) == other != value


def test_unknown_variant() -> None:
    with pytest.raises(CvrError, match="--variant=XXL: --backbone=masknet comes in S, M, L, XL"):
        backbones.make_config("masknet", {}, "XXL")
