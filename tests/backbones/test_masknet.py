"""MaskNet: parallel and sequential blocks, and the single block that both become."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.masknet import Backbone, Config

X = tf.constant(np.random.default_rng(0).normal(0, 1, (5, 6)), tf.float32)


def _build(parallel: int, sequential: int, layer_norm: bool = True) -> Backbone:
    backbone = Backbone(Config(6, 4, parallel, sequential, layer_norm))
    backbone({"cross": X})
    return backbone


def test_one_block_is_a_mask_block_of_the_input_with_itself() -> None:
    backbone = _build(1, 1)
    np.testing.assert_array_equal(backbone({"cross": X}), backbone._branches[0][0]((X, X)))
    assert backbone._branches[0][0].aggregation == 12  # twice the width of the mask's input


def test_parallel_blocks_are_concatenated() -> None:
    backbone = _build(3, 1)
    output = backbone({"cross": X})
    assert output.shape == (5, 12)
    np.testing.assert_array_equal(output, tf.concat([branch[0]((X, X)) for branch in backbone._branches], axis=1))


def test_sequential_blocks_mask_each_output_with_the_input() -> None:
    backbone = _build(1, 3)
    first, second, third = backbone._branches[0]
    np.testing.assert_array_equal(backbone({"cross": X}), third((X, second((X, first((X, X)))))))


def test_branches_do_not_share_weights() -> None:
    backbone = _build(2, 2)
    assert len(backbone.trainable_variables) == 4 * 8  # three dense layers and a norm, two variables each
    assert len(_build(2, 2, layer_norm=False).trainable_variables) == 4 * 6


def test_views_and_wrong_factors() -> None:
    assert Backbone(Config(6, 4)).views == {"cross": 6}
    with pytest.raises(ValueError, match="at least 1"):
        Config(parallel_blocks=0)
