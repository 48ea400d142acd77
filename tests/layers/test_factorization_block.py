"""Wukong's factorization machine block against its equations, with and without the reduced rank."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.factorization_block import FactorizationBlock
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, norm, relu

N, TOKENS, D = 4, 3, 2


def factorise(weights: Arrays, tokens: np.ndarray, rank: int, layers: int, outputs: int) -> Arrays:
    """MLP(LN(flatten(X X^T Y))) cut into tokens; Y the identity with rank 0."""
    gram = np.einsum("nid,njd->nij", tokens, tokens)
    products = gram @ weights["mix"] if rank else gram
    current = norm(weights, "norm", products.reshape(len(tokens), -1))
    steps = {"products": products, "normed": current}
    for place in range(layers):
        current = steps[f"mlp_{place}"] = relu(dense(weights, f"mlp_{place}", current))
    return {**steps, "output": dense(weights, "last", current).reshape(len(tokens), outputs, -1)}


class TestFactorizationBlock(LayerCase):
    rank, layers = 2, 2

    def make(self) -> FactorizationBlock:
        return FactorizationBlock(tokens=2, rank=self.rank, mlp_width=5, mlp_layers=self.layers)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (N, TOKENS, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return factorise(weights, inputs["tokens"], self.rank, self.layers, 2)


class TestFactorizationBlockFullRank(TestFactorizationBlock):
    rank, layers = 0, 0


def test_full_rank_mix_of_the_identity_equals_rank_0() -> None:
    tokens = tf.constant(np.random.default_rng(0).normal(0, 1, (N, TOKENS, D)), tf.float32)
    reduced, full = FactorizationBlock(2, TOKENS, 5), FactorizationBlock(2, 0, 5)
    reduced(tokens)
    reduced.mix.assign(np.eye(TOKENS))
    np.testing.assert_allclose(reduced.trace(tokens)["products"], (full(tokens), full.trace(tokens)["products"])[1], atol=1e-6)


@pytest.mark.parametrize(
    ("rank", "layers", "expected"),
    [(2, 1, 2 * 3 * 4 * 2 + 3 * 2 * 7 + 7 * 5 * 4), (0, 0, 9 * 4 + 9 * 5 * 4), (2, 3, 48 + 3 * 2 * 7 + 2 * 49 + 7 * 5 * 4)],
)
def test_multiply_adds(rank: int, layers: int, expected: int) -> None:
    """Three tokens of width 4 to five, an MLP of width 7."""
    assert FactorizationBlock(5, rank, 7, layers).multiply_adds(3, 4) == expected
