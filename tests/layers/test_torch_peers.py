"""Attention, encoder layer and feed-forward network against PyTorch's, with copied weights, in float64; skipped without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.encoder_block import EncoderBlock
from cvr.layers.self_attention import SelfAttention
from tests.layers.case import policy

torch = pytest.importorskip("torch", reason="the extra `peers` is not installed")

N, L, D, H, F = 4, 5, 6, 2, 7  # a head of PyTorch is D / H wide
SOURCE = np.random.default_rng(0)
X, MIX = (SOURCE.normal(0, 1, (N, L, D)) for _ in range(2))


@pytest.fixture(autouse=True)
def _float64() -> Any:
    with policy("float64"):
        yield


def _fill(layer: tf.keras.layers.Layer) -> None:
    for variable in layer.trainable_variables:
        variable.assign(SOURCE.normal(1.0 if "gamma" in variable.name else 0.0, 0.5, variable.shape))


def _copy(to: Any, value: tf.Variable) -> None:
    """A Keras kernel is the transpose of PyTorch's."""
    array = value.numpy()
    with torch.no_grad():
        to.copy_(torch.from_numpy(array.T if array.ndim == 2 else array))


def _copy_attention(peer: Any, layer: SelfAttention) -> None:
    for own, other in ((layer._project, (peer.in_proj_weight, peer.in_proj_bias)), (layer._output, peer.out_proj.parameters())):
        for variable, parameter in zip((own.kernel, own.bias), other, strict=True):
            _copy(parameter, variable)


def _compare(layer: tf.keras.layers.Layer, peer: Any, hidden: np.ndarray | None) -> None:
    """Outputs to 1e-10 and the input's gradient to 1e-8; PyTorch's mask names the hidden tokens."""
    theirs = torch.from_numpy(X).requires_grad_()
    expected = peer(theirs, None if hidden is None else torch.from_numpy(hidden))
    (expected * torch.from_numpy(MIX)).sum().backward()
    ours = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        output = layer(ours) if hidden is None else layer(ours, tf.constant(~hidden))
        total = tf.reduce_sum(output * MIX)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(tape.gradient(total, ours), theirs.grad.numpy(), rtol=1e-8, atol=1e-8)


HIDDEN = np.array([[False] * L, [False, True, True, False, False], [True] * 4 + [False], [False] * 4 + [True]])


@pytest.mark.parametrize("hidden", [None, HIDDEN], ids=["all", "masked"])
def test_self_attention(hidden: np.ndarray | None) -> None:
    layer = SelfAttention(H, D // H)
    layer(tf.constant(X))
    _fill(layer)
    peer = torch.nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    _copy_attention(peer, layer)
    _compare(layer, lambda x, mask: peer(x, x, x, key_padding_mask=mask, need_weights=False)[0], hidden)


@pytest.mark.parametrize("hidden", [None, HIDDEN], ids=["all", "masked"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_encoder_block(norm: str, activation: str, hidden: np.ndarray | None) -> None:
    """PyTorch's layer norm has an epsilon of 1e-5 by default; ours, Keras', has 1e-3."""
    layer = EncoderBlock(H, D // H, F, activation, norm)
    layer(tf.constant(X))
    _fill(layer)
    sizes = {"dim_feedforward": F, "dropout": 0.0, "activation": activation, "layer_norm_eps": 1e-3, "batch_first": True}
    peer = torch.nn.TransformerEncoderLayer(D, H, norm_first=norm == "pre", dtype=torch.float64, **sizes)
    _copy_attention(peer.self_attn, layer._attention)
    pairs = [(layer._ffn._up, peer.linear1), (layer._ffn._down, peer.linear2)]
    for own, other in pairs:
        _copy(other.weight, own.kernel)
        _copy(other.bias, own.bias)
    for own, other in zip(layer._norms, (peer.norm1, peer.norm2), strict=True):
        _copy(other.weight, own.gamma)
        _copy(other.bias, own.beta)
    _compare(layer, lambda x, mask: peer(x, src_key_padding_mask=mask), hidden)
