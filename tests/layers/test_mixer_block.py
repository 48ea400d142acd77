"""The RankMixer layer against its equations: post-norm over D, around mixing and around the feed-forward network."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.mixer_block import MixerBlock
from cvr.layers.per_token_ffn import PerTokenFFN
from cvr.layers.sparse_per_token_ffn import SparsePerTokenFFN
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import norm, relu

N, T, D, F = 4, 2, 4, 3


class TestMixerBlock(LayerCase):
    def make(self) -> MixerBlock:
        return MixerBlock(PerTokenFFN(F, "relu", name="ffn"))

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (N, T, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """S = LN(mixed + X), Y = LN(FFN(S) + S)."""
        tokens = inputs["tokens"]
        mixed = np.stack([np.concatenate([tokens[:, t, 2 * h : 2 * h + 2] for t in range(T)], axis=1) for h in range(T)], axis=1)
        middle = norm(weights, "norm_0", mixed + tokens)
        fed = np.zeros_like(tokens)
        for t in range(T):
            hidden = relu(middle[:, t] @ weights["ffn/up"][t] + weights["ffn/up_bias"][t, 0])
            fed[:, t] = hidden @ weights["ffn/down"][t] + weights["ffn/down_bias"][t, 0]
        return {"mixed": mixed, "middle": middle, "fed": fed, "output": norm(weights, "norm_1", fed + middle)}


def test_sparse_experts_get_their_rows_and_penalise() -> None:
    layer = MixerBlock(SparsePerTokenFFN(F, 2, name="ffn"))
    tokens = tf.constant(np.random.default_rng(0).normal(0, 1, (N, T, D)), tf.float32)
    layer(tokens)
    assert not layer.losses
    rows = tf.constant([True, False, True, False])
    steps = layer.trace(tokens, rows)
    np.testing.assert_allclose(steps["fed"], layer.ffn.trace(steps["middle"], rows)["output"], rtol=1e-5, atol=1e-6)
    layer(tokens, dense_rows=rows)
    assert len(layer.losses) == 1


def test_multiply_adds_are_those_of_the_feed_forward_network() -> None:
    assert MixerBlock(PerTokenFFN(F)).multiply_adds(T, D) == 2 * T * D * F
