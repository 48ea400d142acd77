"""Token mixing: where each number goes, and that going twice comes back."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.token_mixing import TokenMixing
from tests.layers.case import Arrays, LayerCase


class TestTokenMixing(LayerCase):
    def make(self) -> TokenMixing:
        return TokenMixing()

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (4, 3, 6))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """Output token h is head h of token 1, of token 2, of token 3; a head is two numbers wide."""
        tokens = inputs["tokens"]
        heads = np.stack([tokens[:, :, 2 * h : 2 * h + 2] for h in range(3)], axis=2)
        output = np.stack([np.concatenate([heads[:, t, h] for t in range(3)], axis=1) for h in range(3)], axis=1)
        return {"heads": heads, "output": output}


def test_by_hand() -> None:
    mixed = TokenMixing()(tf.constant([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]))
    np.testing.assert_array_equal(mixed, [[[1, 2, 5, 6], [3, 4, 7, 8]]])


def test_twice_is_the_identity() -> None:
    tokens = tf.constant(np.random.default_rng(0).normal(0, 1, (3, 4, 8)), tf.float32)
    once = TokenMixing()(tokens)
    np.testing.assert_array_equal(TokenMixing()(once), tokens)
    assert np.abs(once - tokens).max() > 0.1


def test_nothing_to_learn_and_nothing_to_multiply() -> None:
    layer = TokenMixing()
    layer(tf.ones([1, 2, 4]))
    assert not layer.weights and layer.multiply_adds() == 0


def test_the_width_must_be_a_multiple_of_the_tokens() -> None:
    with pytest.raises(ValueError, match="3 tokens cannot mix heads of tokens of width 4: the width must be a multiple of 3"):
        TokenMixing()(tf.ones([1, 3, 4]))
