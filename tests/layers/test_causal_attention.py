"""Causal attention against its equation, token by token, and tokens read after all others."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.causal_attention import CausalAttention
from tests.layers.case import Arrays, LayerCase
from tests.layers.test_rotary_positions import rotate

HEADS = 2


def causal_attention(weights: Arrays, tokens: np.ndarray, visible: np.ndarray, heads: int) -> Arrays:
    """Every token reads the visible ones up to its own place, each head by itself."""
    rows, length, width = tokens.shape
    c = width // heads

    def cut(name: str) -> np.ndarray:
        return (tokens @ weights[f"{name}/kernel"]).reshape(rows, length, heads, c).transpose(0, 2, 1, 3)

    query, key, value = rotate(cut("query"))["output"], rotate(cut("key"))["output"], cut("value")
    logits = np.einsum("nhpc,nhrc->nhpr", query, key) / np.sqrt(c)
    shares, read = np.zeros_like(logits), np.zeros_like(value)
    for n in range(rows):
        for place in range(length):
            seen = [r for r in range(place + 1) if visible[n, r]]
            for h in range(heads):
                powers = np.exp(logits[n, h, place, seen])
                shares[n, h, place, seen] = powers / powers.sum()
                read[n, h, place] = shares[n, h, place] @ value[n, h]
    output = read.transpose(0, 2, 1, 3).reshape(rows, length, width) @ weights["output/kernel"]
    return {"query": query, "key": key, "value": value, "logits": logits, "weights": shares, "read": read, "output": output}


class TestCausalAttention(LayerCase):
    """Rows with all tokens, with padding at the start, with one token, with none."""

    places = 2

    def make(self) -> CausalAttention:
        return CausalAttention(HEADS)

    def inputs(self, source: np.random.Generator) -> Arrays:
        visible = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], bool)
        return {"tokens": source.normal(0, 1, (4, 3, 8)), "visible": visible}

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return causal_attention(weights, inputs["tokens"], inputs["visible"], HEADS)


@pytest.fixture(scope="module")
def layer() -> CausalAttention:
    return TestCausalAttention().build()


def test_a_later_token_changes_no_earlier_one(layer: CausalAttention) -> None:
    tokens = np.random.default_rng(1).normal(0, 1, (2, 3, 8)).astype(np.float32)
    changed = tokens.copy()
    changed[:, 2] += 1.0
    seen = tf.ones([2, 3], tf.bool)
    before, after = layer(tf.constant(tokens), seen).numpy(), layer(tf.constant(changed), seen).numpy()
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    assert np.abs(after[:, 2] - before[:, 2]).max() > 0.01


def test_a_token_read_after_all_others_is_the_last_of_them(layer: CausalAttention) -> None:
    inputs = TestCausalAttention().stored("inputs")
    tokens, visible = tf.constant(inputs["tokens"], tf.float32), inputs["visible"].copy()
    visible[:, 2] = True
    whole = layer(tokens, tf.constant(visible))[:, 2]
    read = layer.read(tokens[:, 2], layer.remember(tokens[:, :2]), tf.constant(visible[:, :2]))
    np.testing.assert_allclose(read, whole, rtol=1e-5, atol=1e-6)


def test_shifting_all_tokens_behind_padding_changes_nothing(layer: CausalAttention) -> None:
    tokens = tf.constant(np.random.default_rng(2).normal(0, 1, (2, 3, 8)), tf.float32)
    shifted = layer(tf.pad(tokens, [[0, 0], [4, 0], [0, 0]]), tf.constant([[False] * 4 + [True] * 3] * 2))
    np.testing.assert_allclose(shifted[:, 4:], layer(tokens, tf.ones([2, 3], tf.bool)), rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="3 heads of width 8 / 3: the width must be a multiple of 6"):
        CausalAttention(3)(tf.zeros([1, 2, 8]), tf.ones([1, 2], tf.bool))


def test_multiply_adds(layer: CausalAttention) -> None:
    assert layer.multiply_adds(5, 8) == 4 * 5 * 64 + 2 * 25 * 8
    assert layer.remember_multiply_adds(5) == 2 * 5 * 64 and layer.read_multiply_adds(5) == 4 * 64 + 2 * 5 * 8
