"""DCN-V2: the two structures, made of cross layers and dense layers that are tested by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.dcnv2 import Backbone, Config

SOURCE = np.random.default_rng(0)
X = tf.constant(SOURCE.normal(0, 1, (5, 8)), tf.float32)
DEEP = tf.constant(SOURCE.normal(0, 1, (5, 3)), tf.float32)


def _crossed(backbone: Backbone) -> tf.Tensor:
    crossed = X
    for layer in backbone._crosses:
        crossed = layer((X, crossed))
    return crossed


def test_parallel_is_cross_and_deep_side_by_side() -> None:
    backbone = Backbone(Config(8, 3, cross_layers=2, deep_layers=3))
    output = backbone({"cross": X, "deep": DEEP})
    deep = DEEP
    for layer in backbone._deep:
        deep = layer(deep)
    np.testing.assert_array_equal(output, tf.concat([_crossed(backbone), deep], axis=1))
    assert len(backbone._deep) == 2  # the first of the three is the projection's second view
    assert backbone.views == {"cross": 8, "deep": 3}


def test_stacked_is_deep_on_top_of_cross() -> None:
    backbone = Backbone(Config(8, 3, cross_layers=1, deep_layers=2, structure="stacked"))
    output = backbone({"cross": X})
    first, second = backbone._deep
    np.testing.assert_array_equal(output, second(first(_crossed(backbone))))
    assert output.shape == (5, 3) and backbone.views == {"cross": 8}


@pytest.mark.parametrize(("rank", "used"), [(-1, 2), (0, 0), (3, 3)])
def test_ranks(rank: int, used: int) -> None:
    backbone = Backbone(Config(8, 3, cross_rank=rank))
    assert {layer.rank for layer in backbone._crosses} == {used}


def test_wrong_factors() -> None:
    with pytest.raises(ValueError, match="parallel or stacked, not 'both'"):
        Config(structure="both")
    with pytest.raises(ValueError, match="at least 1"):
        Config(cross_layers=0)
