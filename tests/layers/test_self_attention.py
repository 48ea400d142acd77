"""Self-attention against its equations, Keras' own layer, and what masks and permutations must do."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.self_attention import SelfAttention
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, softmax

N, L, D, H, K = 5, 4, 6, 2, 3


def attention(weights: Arrays, tokens: np.ndarray, heads: int, visible: np.ndarray | None = None) -> Arrays:
    """softmax(Q K^T / sqrt(k)) V head by head, hidden tokens left out of the sum; joint columns are [query | key | value], head by head."""
    joint = dense(weights, "project", tokens)
    query, key, value = (np.stack(np.split(part, heads, axis=2), axis=1) for part in np.split(joint, 3, axis=2))
    logits = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])
    shares = np.zeros_like(logits)
    for row in range(len(tokens)):
        shown = np.arange(tokens.shape[1]) if visible is None else np.flatnonzero(visible[row])
        if len(shown):
            shares[row][..., shown] = softmax(logits[row][..., shown])
    read = shares @ value
    output = dense(weights, "output", np.concatenate(list(read.transpose(1, 0, 2, 3)), axis=2))
    return {"query": query, "key": key, "value": value, "logits": logits, "weights": shares, "read": read, "output": output}


class TestSelfAttention(LayerCase):
    def make(self) -> SelfAttention:
        return SelfAttention(H, K)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (N, L, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return attention(weights, inputs["tokens"], H, inputs.get("visible"))


class TestSelfAttentionMasked(TestSelfAttention):
    """One row sees every token, one none at all."""

    def inputs(self, source: np.random.Generator) -> Arrays:
        visible = source.random((N, L)) < 0.6
        visible[0], visible[1] = True, False
        return {**super().inputs(source), "visible": visible}

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)


@pytest.fixture
def layer() -> SelfAttention:
    return TestSelfAttention().build()


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(5).normal(0, 1, (N, L, D)).astype(np.float32)


def test_equals_keras_multi_head_attention(layer: SelfAttention, tokens: np.ndarray) -> None:
    peer = tf.keras.layers.MultiHeadAttention(H, K)
    peer(tokens, tokens)
    kernels = np.split(layer._project.kernel.numpy().reshape(D, 3 * H, K), 3, axis=1)
    biases = np.split(layer._project.bias.numpy().reshape(3 * H, K), 3)
    for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
        dense_layer = getattr(peer, f"_{name}_dense")
        dense_layer.kernel.assign(kernel)
        dense_layer.bias.assign(bias)
    peer._output_dense.kernel.assign(layer._output.kernel.numpy().reshape(H, K, D))
    peer._output_dense.bias.assign(layer._output.bias)
    np.testing.assert_allclose(layer(tokens), peer(tokens, tokens), rtol=1e-5, atol=1e-5)
    visible = np.random.default_rng(6).random((N, L)) < 0.5
    visible[:, 0] = True
    expected = peer(tokens, tokens, attention_mask=np.repeat(visible[:, None, :], L, axis=1))
    np.testing.assert_allclose(layer(tokens, tf.constant(visible)), expected, rtol=1e-5, atol=1e-5)


def test_permuted_tokens_give_permuted_outputs(layer: SelfAttention, tokens: np.ndarray) -> None:
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(layer(tokens[:, order]), layer(tokens).numpy()[:, order], rtol=1e-5, atol=1e-5)


def test_hidden_tokens_change_nothing(layer: SelfAttention, tokens: np.ndarray) -> None:
    visible = tf.constant([[True, True, False, False]] * N)
    changed = tokens.copy()
    changed[:, 2:] = 1e3
    np.testing.assert_array_equal(layer(changed, visible)[:, :2], layer(tokens, visible)[:, :2])
    np.testing.assert_allclose(layer(tokens, visible)[:, :2], layer(tokens[:, :2]), rtol=1e-5, atol=1e-5)


def test_all_hidden_leaves_the_bias(layer: SelfAttention, tokens: np.ndarray) -> None:
    output = layer(tokens, tf.zeros([N, L], tf.bool))
    np.testing.assert_allclose(output, np.broadcast_to(layer._output.bias, output.shape), atol=1e-6)


def test_multiply_adds_grow_with_the_heads() -> None:
    """Per head: four L x d x k projections, and L x L x k twice."""
    assert SelfAttention(1, 3).multiply_adds(4, 6) == 4 * 4 * 6 * 3 + 2 * 4 * 4 * 3
    assert SelfAttention(5, 3).multiply_adds(4, 6) == 5 * SelfAttention(1, 3).multiply_adds(4, 6)
