"""MaskNet: parallel and sequential blocks, and the single block that both become."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.masknet import Backbone, Config
from cvr.layers.mask_block import MaskBlock
from tests.layers.case import weights_of
from tests.layers.references import dense, norm, relu

X = tf.constant(np.random.default_rng(0).normal(0, 1, (5, 6)), tf.float32)


def _build(parallel: int, sequential: int, layer_norm: bool = True) -> Backbone:
    backbone = Backbone(Config(6, 4, parallel, sequential, layer_norm))
    backbone({"cross": X})
    return backbone


def _block(block: MaskBlock, x: np.ndarray, first: np.ndarray) -> np.ndarray:
    """M(x, x0) of the paper, in float64."""
    weights = {name.split(f"{block.name}/")[-1]: v.numpy().astype(np.float64) for name, v in weights_of(block).items()}
    mask = dense(weights, "mask", relu(dense(weights, "aggregate", first)))
    return relu(norm(weights, "norm", dense(weights, "output", mask * x)))


def test_equals_the_papers_two_forms() -> None:
    """Concat(M_1(x0, x0), ..., M_P(x0, x0)), and M_S( ... M_1(x0, x0) ..., x0)."""
    first = X.numpy().astype(np.float64)
    parallel, sequential = _build(3, 1), _build(1, 3)
    expected = np.concatenate([_block(branch[0], first, first) for branch in parallel._branches], axis=1)
    np.testing.assert_allclose(parallel({"cross": X}), expected, rtol=1e-5, atol=1e-5)
    current = first
    for block in sequential._branches[0]:
        current = _block(block, current, first)
    np.testing.assert_allclose(sequential({"cross": X}), current, rtol=1e-5, atol=1e-5)


def test_one_parallel_block_is_one_sequential_block() -> None:
    """The two forms with one block each: the same variables, the same numbers."""
    parallel, sequential = Backbone(Config(6, 4, parallel_blocks=1)), Backbone(Config(6, 4, 1, sequential_blocks=1))
    for backbone in (parallel, sequential):
        backbone({"cross": X})
    for one, other in zip(parallel.trainable_variables, sequential.trainable_variables, strict=True):
        other.assign(one)
    np.testing.assert_array_equal(parallel({"cross": X}), sequential({"cross": X}))
    assert parallel.multiply_adds() == sequential.multiply_adds()


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
