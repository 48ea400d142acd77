"""Backbones are found by module name, and keep the interface that the ranker relies on."""

from __future__ import annotations

import dataclasses

import pytest
import tensorflow as tf

from cvr import backbones
from cvr.backbone_flags import factors
from cvr.errors import CvrError


def test_names() -> None:
    assert {"dcnv2", "masknet"} <= set(backbones.names())
    assert list(backbones.names()) == sorted(backbones.names())


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_keeps_the_interface(name: str) -> None:
    module = backbones.load(name)
    assert dataclasses.is_dataclass(module.Config) and module.Config.__dataclass_params__.frozen
    backbone = module.Backbone(module.Config())
    views = {view: tf.ones([3, width]) for view, width in backbone.views.items()}
    hidden = backbone(views)
    assert hidden.shape[0] == 3 and hidden.shape.rank == 2 and hidden.shape[1] is not None
    assert hidden.dtype == tf.float32


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
