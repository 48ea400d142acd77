"""Attention with projections of each token's own against a loop over tokens and heads, and against plain self-attention."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.heterogeneous_attention import HeterogeneousAttention
from cvr.layers.self_attention import SelfAttention
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, softmax

N, T, D, H, K = 5, 3, 4, 2, 3


def attended(weights: Arrays, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> Arrays:
    """softmax(q k' / sqrt(k)) v row by row and head by head, from `[N, T, H, k]`; then the output layer on the heads side by side."""
    rows, length, heads, width = query.shape
    logits = np.zeros((rows, heads, length, length))
    read = np.zeros((rows, length, heads, width))
    for n in range(rows):
        for h in range(heads):
            logits[n, h] = query[n, :, h] @ key[n, :, h].T / np.sqrt(width)
            read[n, :, h] = softmax(logits[n, h]) @ value[n, :, h]
    by_head = {name: part.transpose(0, 2, 1, 3) for name, part in (("query", query), ("key", key), ("value", value))}
    flat = read.reshape(rows, length, heads * width)
    return {**by_head, "logits": logits, "weights": softmax(logits), "read": flat, "output": dense(weights, "output", flat)}


def heterogeneous(weights: Arrays, tokens: np.ndarray, heads: int) -> Arrays:
    """q_i, k_i and v_i from the token's own W_i; the columns are [query | key | value], each head by head."""
    joint = np.stack([tokens[:, i] @ weights["kernel"][i] + weights["bias"][i, 0] for i in range(tokens.shape[1])], axis=1)
    parts = [part.reshape(*part.shape[:2], heads, -1) for part in np.split(joint, 3, axis=2)]
    return attended(weights, *parts)


class TestHeterogeneousAttention(LayerCase):
    def make(self) -> HeterogeneousAttention:
        return HeterogeneousAttention(H, K)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (N, T, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return heterogeneous(weights, inputs["tokens"], H)


def test_is_self_attention_where_all_tokens_have_the_same_projection() -> None:
    layer, plain = TestHeterogeneousAttention().build(), SelfAttention(H, K)
    tokens = tf.constant(np.random.default_rng(1).normal(0, 1, (N, T, D)), tf.float32)
    plain(tokens)
    layer.kernel.assign(tf.repeat(plain._project.kernel[None], T, axis=0))
    layer.bias.assign(tf.repeat(plain._project.bias[None, None], T, axis=0))
    layer._output.kernel.assign(plain._output.kernel)
    layer._output.bias.assign(plain._output.bias)
    np.testing.assert_allclose(layer(tokens), plain(tokens), rtol=1e-5, atol=1e-5)
    assert layer.multiply_adds(T, D) == plain.multiply_adds(T, D)


def test_a_tokens_projection_moves_what_others_read_of_it_and_nothing_else() -> None:
    """With the other tokens' values at 0, a change of token 1's query reaches token 1's output alone."""
    layer = TestHeterogeneousAttention().build()
    tokens = np.random.default_rng(2).normal(0, 1, (N, T, D)).astype(np.float32)
    before = layer(tokens).numpy()
    kernel = layer.kernel.numpy()
    kernel[1, :, : H * K] += 1.0
    layer.kernel.assign(kernel)
    moved = np.abs(layer(tokens) - before).max(axis=(0, 2)) > 1e-6
    assert moved.tolist() == [False, True, False]


def test_each_token_starts_with_its_own_fan_in() -> None:
    tf.random.set_seed(0)
    layer = HeterogeneousAttention(2, 50)
    layer(tf.ones([1, 30, 100]))
    np.testing.assert_allclose([layer.kernel.numpy().var(), layer.kernel.numpy()[3].var()], 1 / 100, rtol=0.05)
