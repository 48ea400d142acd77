"""The encoder layer against its equations, with the norm before and after."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.encoder_block import EncoderBlock
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, norm, relu
from tests.layers.test_self_attention import attention


def encode(weights: Arrays, tokens: np.ndarray, heads: int, kind: str) -> Arrays:
    """S = X + Att(LN(X)), Y = S + FFN(LN(S)); with the norm after each sum for `post`."""

    def inside(name: str) -> Arrays:
        return {key.removeprefix(name + "/"): value for key, value in weights.items() if key.startswith(name + "/")}

    before = norm(weights, "norm_0", tokens) if kind == "pre" else tokens
    attended = attention(inside("attention"), before, heads)["output"]
    middle = tokens + attended if kind == "pre" else norm(weights, "norm_0", tokens + attended)
    before = norm(weights, "norm_1", middle) if kind == "pre" else middle
    fed = dense(inside("ffn"), "down", relu(dense(inside("ffn"), "up", before)))
    output = middle + fed if kind == "pre" else norm(weights, "norm_1", middle + fed)
    return {"attended": attended, "middle": middle, "fed": fed, "output": output}


class TestEncoderBlockPre(LayerCase):
    norm = "pre"

    def make(self) -> EncoderBlock:
        return EncoderBlock(heads=2, head_width=3, ffn_width=5, norm=self.norm)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (4, 3, 4))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return encode(weights, inputs["tokens"], 2, self.norm)


class TestEncoderBlockPost(TestEncoderBlockPre):
    norm = "post"


@pytest.mark.parametrize("case", [TestEncoderBlockPre, TestEncoderBlockPost])
def test_masking_and_permutation(case: type[TestEncoderBlockPre]) -> None:
    layer = case().build()
    tokens = tf.constant(np.random.default_rng(1).normal(0, 1, (4, 3, 4)), tf.float32)
    order = [1, 2, 0]
    permuted = tf.gather(layer(tokens), order, axis=1)
    np.testing.assert_allclose(layer(tf.gather(tokens, order, axis=1)), permuted, rtol=1e-5, atol=1e-5)
    visible = tf.constant([[True, True, False]] * 4)
    np.testing.assert_allclose(layer(tokens, visible)[:, :2], layer(tokens[:, :2]), rtol=1e-5, atol=1e-5)


def test_wrong_norm() -> None:
    with pytest.raises(ValueError, match="pre or post, not 'both'"):
        EncoderBlock(1, 2, 3, norm="both")


def test_multiply_adds() -> None:
    """Two heads of width 3 on 5 tokens of width 4, then 4 -> 6 -> 4."""
    assert EncoderBlock(2, 3, 6).multiply_adds(5, 4) == 2 * (4 * 5 * 4 * 3 + 2 * 25 * 3) + 5 * 2 * 4 * 6
