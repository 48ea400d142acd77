"""DHEN: members alone and together, layers on layers, and how members are written."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr import backbones
from cvr.backbones import masknet, rankmixer
from cvr.backbones.dhen import Backbone, Config, read_members

MASKNET = "masknet:cross_width=6:deep_width=4"  # gives 8 numbers
RANKMIXER = "rankmixer:model_width=4:tokens=2:ffn_width=3:pooling=flatten"  # gives 8 numbers, too
SIZE = {"tokens": 2, "model_width": 4}


def _inputs(backbone: tf.keras.layers.Layer) -> dict[str, tf.Tensor]:
    source = np.random.default_rng(0)
    return {name: tf.constant(source.random((5, width)), tf.float32) for name, width in backbone.views.items()}


@pytest.mark.parametrize("ensemble", ["concat", "sum", "weighted_sum"])
def test_one_member_is_the_member(ensemble: str) -> None:
    backbone = Backbone(Config(members=MASKNET, ensemble=ensemble, shortcut=False, layer_norm=False, **SIZE))
    alone = masknet.Backbone(masknet.Config(6, 4))
    views = _inputs(backbone)
    assert backbone.views == {"0/cross": 6}
    alone({"cross": views["0/cross"]}), backbone(views)
    own = [variable for variable in backbone.trainable_variables if "masknet" in variable.name]
    for one, other in zip(own, alone.trainable_variables, strict=True):
        other.assign(one)
    np.testing.assert_array_equal(backbone(views), alone({"cross": views["0/cross"]}))
    assert backbone.multiply_adds() == alone.multiply_adds() and backbone.width == alone.width


def test_one_member_with_shortcut_and_norm() -> None:
    backbone = Backbone(Config(members=MASKNET, **SIZE))
    views = _inputs(backbone)
    output = backbone(views)
    member = backbone._members[0][0](views["0/cross"])
    shortcut = views["0/cross"] @ backbone._ensembles[0]._short.kernel
    summed = tf.reshape(member + shortcut, [5, 2, 4]).numpy()
    mean, variance = summed.mean(axis=2, keepdims=True), summed.var(axis=2, keepdims=True)
    np.testing.assert_allclose(output, ((summed - mean) / np.sqrt(variance + 1e-3)).reshape(5, 8), rtol=1e-4, atol=1e-4)


def test_members_read_their_own_views_and_stand_side_by_side() -> None:
    backbone = Backbone(Config(members=f"{MASKNET},{RANKMIXER}", shortcut=False, layer_norm=False, **SIZE))
    assert backbone.views == {"0/cross": 6, "1/tokens": 8} and backbone.width == 16
    views = _inputs(backbone)
    output = backbone(views)
    first, second = (member.backbone for member in backbone._members[0])
    assert isinstance(first, masknet.Backbone) and isinstance(second, rankmixer.Backbone)
    parts = [first({"cross": views["0/cross"]}), second({"tokens": views["1/tokens"]})]
    np.testing.assert_array_equal(output, tf.concat(parts, axis=1))


def test_a_second_layer_reads_the_first() -> None:
    """Its members see ReLU projections of the first layer's output, and nothing of the input beside."""
    members = f"{MASKNET},{RANKMIXER}"
    one, two = (Backbone(Config(members=members, ensemble="sum", layers=layers, **SIZE)) for layers in (1, 2))
    views = _inputs(two)
    two(views)
    one(views)
    for variable, source in zip(one.trainable_variables, _of_layer(two, 0), strict=True):
        variable.assign(source)
    first = one(views)
    outputs = []
    for member in two._members[1]:
        (name, width), *_ = member.backbone.views.items()
        projected = tf.nn.relu(first @ member._project.kernel + member._project.bias)
        assert projected.shape[1] == width
        outputs.append(member.backbone({name: projected}))
    np.testing.assert_allclose(two(views), two._ensembles[1]([first, *outputs]), rtol=1e-5, atol=1e-5)


def _of_layer(backbone: Backbone, layer: int) -> list[tf.Variable]:
    members = [variable for member in backbone._members[layer] for variable in member.trainable_variables]
    return [*members, *backbone._ensembles[layer].trainable_variables]


def test_cost_is_members_maps_projections_and_shortcuts_once() -> None:
    members = read_members(f"{MASKNET},{RANKMIXER}")
    alone = sum(backbones.load(name).Backbone(config).multiply_adds() for name, config in members)
    one = Backbone(Config(members=f"{MASKNET},{RANKMIXER}", ensemble="sum", **SIZE)).multiply_adds()
    assert one == alone + 14 * 8  # the shortcut: 6 + 8 numbers of views to 8
    two = Backbone(Config(members=f"{MASKNET},{RANKMIXER}", ensemble="sum", layers=2, **SIZE)).multiply_adds()
    assert two - one == alone + 8 * (6 + 8)  # the members' projections; the second shortcut is the identity


def test_sparse_experts_of_a_member_are_trained_as_such() -> None:
    backbone = Backbone(Config(members=f"{RANKMIXER}:ffn_experts=2:layers=1", **SIZE))
    views = _inputs(backbone)
    backbone(views)
    assert not backbone.losses
    backbone(views, training=True)
    assert len(backbone.losses) == 1


def test_members_have_variants_and_typed_factors() -> None:
    (first, mask), (second, rank) = read_members("masknet:variant=L:deep_width=7:layer_norm=false, rankmixer:active_share=0.5")
    assert (first, mask.cross_width, mask.deep_width, mask.layer_norm) == ("masknet", 2048, 7, False)
    assert (second, rank.active_share, rank.model_width) == ("rankmixer", 0.5, 64)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"members": "masknet:wide"}, "members: 'wide' is not factor=value; write members as name:factor=value"),
        ({"members": "masknet:cross_width=x"}, "members: cross_width=x is not of type int"),
        ({"members": "masknet:layer_norm=1"}, "members: layer_norm=1 is not of type bool"),
        ({"members": "masknet:depth=2"}, "--depth does not belong to --backbone=masknet"),
        ({"members": "resnet"}, "--backbone=resnet: no such backbone"),
        ({"members": "masknet,dhen"}, "dhen cannot be its own member"),
        ({"members": "masknet:cross_width=0"}, "--backbone=masknet: .*at least 1"),
        ({"ensemble": "mean"}, "ensemble is concat, sum, weighted_sum, not 'mean'"),
        ({"layers": 0}, "at least 1"),
    ],
)
def test_wrong_factors(factors: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**factors)
