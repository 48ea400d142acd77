"""DCN-V2: the two structures, made of cross layers and dense layers that are tested by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

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


def test_cross_tower_equals_tfrs_multi_layer_dcn() -> None:
    """Three low-rank layers with copied weights; TFRS applies its `u` kernel first."""
    backbone = Backbone(Config(8, 3, cross_layers=3, cross_rank=2))
    output = backbone({"cross": X, "deep": DEEP})
    peer = tfrs.layers.feature_interaction.MultiLayerDCN(projection_dim=2, num_layers=3)
    peer(X)
    source = np.random.default_rng(1)
    for layer, down, up in zip(backbone._crosses, peer._dense_u_kernels, peer._dense_v_kernels, strict=True):
        for own, other in ((layer.down, down.kernel), (layer.up, up.kernel), (layer.bias, up.bias)):
            own.assign(source.normal(0, 0.5, own.shape))
            other.assign(own)
    crossed = backbone({"cross": X, "deep": DEEP})[:, :8]
    np.testing.assert_allclose(crossed, peer(X), rtol=1e-5, atol=1e-5)
    assert np.abs(crossed - output[:, :8]).max() > 0.1


def test_the_degree_grows_by_one_per_layer() -> None:
    """Without biases, L cross layers of c x0 are a polynomial of degree L + 1 in c: differences of that order are constant."""
    backbone = Backbone(Config(8, 3, cross_layers=3, cross_rank=0))
    backbone({"cross": X, "deep": DEEP})
    values = np.stack([backbone({"cross": c * X, "deep": DEEP})[:, :8] for c in np.arange(7.0, dtype=np.float32)])
    assert np.abs(np.diff(values, n=5, axis=0)).max() < 1e-3 * np.abs(np.diff(values, n=4, axis=0)).max()


@pytest.mark.parametrize(("rank", "used"), [(-1, 2), (0, 0), (3, 3)])
def test_ranks(rank: int, used: int) -> None:
    backbone = Backbone(Config(8, 3, cross_rank=rank))
    assert {layer.rank for layer in backbone._crosses} == {used}


def test_wrong_factors() -> None:
    with pytest.raises(ValueError, match="parallel or stacked, not 'both'"):
        Config(structure="both")
    with pytest.raises(ValueError, match="at least 1"):
        Config(cross_layers=0)
