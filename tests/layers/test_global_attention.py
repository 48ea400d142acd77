"""Attention on composite projections of all tokens against its equations, full and of low rank."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.global_attention import GlobalAttention
from cvr.layers.heterogeneous_attention import HeterogeneousAttention
from tests.layers.case import Arrays, LayerCase
from tests.layers.test_heterogeneous_attention import attended

N, T, D, H, K, R = 5, 3, 4, 2, 3, 5


def composite(weights: Arrays, tokens: np.ndarray, heads: int) -> Arrays:
    """q, k and v each from all tokens side by side, by W or by L R; row-major: token, then head, then number."""
    flat, parts = tokens.reshape(len(tokens), -1), []
    for i in range(3):
        if "down" in weights:
            rank = weights["up"].shape[1]
            product = flat @ weights["down"][:, i * rank : (i + 1) * rank] @ weights["up"][i]
        else:
            product = flat @ weights["up"][i]
        parts.append((product + weights["bias"][i, 0]).reshape(*tokens.shape[:2], heads, -1))
    return attended(weights, *parts)


class TestGlobalAttention(LayerCase):
    rank = 0

    def make(self) -> GlobalAttention:
        return GlobalAttention(H, K, self.rank)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 0.6, (N, T, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return composite(weights, inputs["tokens"], H)


class TestGlobalAttentionLowRank(TestGlobalAttention):
    rank = R

    def start(self, source: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Smaller, as two factors multiply: else the softmax is a maximum, and rounding to bfloat16 chooses another one."""
        return 0.6 * super().start(source, name, shape)


def test_is_heterogeneous_attention_where_the_projection_is_block_diagonal() -> None:
    """Each token's block of W sees that token alone."""
    layer, own = TestGlobalAttention().build(), HeterogeneousAttention(H, K)
    tokens = tf.constant(np.random.default_rng(1).normal(0, 1, (N, T, D)), tf.float32)
    own(tokens)
    up, bias, inner = np.zeros((3, T * D, T * H * K)), np.zeros((3, 1, T * H * K)), H * K
    for part in range(3):
        for token in range(T):
            columns = slice(part * inner, (part + 1) * inner)
            up[part, token * D : (token + 1) * D, token * inner : (token + 1) * inner] = own.kernel.numpy()[token][:, columns]
            bias[part, 0, token * inner : (token + 1) * inner] = own.bias.numpy()[token, 0, columns]
    layer.up.assign(up)
    layer.bias.assign(bias)
    layer._output.kernel.assign(own._output.kernel)
    layer._output.bias.assign(own._output.bias)
    np.testing.assert_allclose(layer(tokens), own(tokens), rtol=1e-5, atol=1e-5)


def test_low_rank_is_the_full_matrix_of_its_product() -> None:
    low, full = TestGlobalAttentionLowRank().build(), TestGlobalAttention().build()
    tokens = tf.constant(np.random.default_rng(1).normal(0, 1, (N, T, D)), tf.float32)
    full.up.assign([low.down.numpy()[:, i * R : (i + 1) * R] @ low.up.numpy()[i] for i in range(3)])
    full.bias.assign(low.bias)
    full._output.kernel.assign(low._output.kernel)
    full._output.bias.assign(low._output.bias)
    np.testing.assert_allclose(low(tokens), full(tokens), rtol=1e-4, atol=1e-4)
