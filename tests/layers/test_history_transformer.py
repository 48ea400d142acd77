"""The Transformer over a history against its equations, and what padding, order and emptiness must do."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.history_transformer import HistoryTransformer
from tests.layers.case import Arrays, LayerCase
from tests.layers.histories import check_history, history_inputs
from tests.layers.references import dense, norm, relu
from tests.layers.test_self_attention import attention

HEADS = 2


def _inside(weights: Arrays, name: str) -> Arrays:
    return {key.removeprefix(name + "/"): value for key, value in weights.items() if key.startswith(name + "/")}


def _block(weights: Arrays, tokens: np.ndarray, visible: np.ndarray) -> np.ndarray:
    middle = tokens + attention(_inside(weights, "attention"), norm(weights, "norm_0", tokens), HEADS, visible)["output"]
    ffn = _inside(weights, "ffn")
    return middle + dense(ffn, "down", relu(dense(ffn, "up", norm(weights, "norm_1", middle))))


class TestHistoryTransformer(LayerCase):
    """Two layers; lists with every event, some, one and none, and more columns than places."""

    places = 2

    def make(self) -> HistoryTransformer:
        return HistoryTransformer(length=3, heads=HEADS, layers=2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return history_inputs(source)

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        events, real = inputs["events"], inputs["real"]
        placed = events.copy()
        placed[:, :3] += weights["places"]
        hidden = placed
        for i in range(2):
            hidden = _block(_inside(weights, f"block_{i}"), hidden, real)
        encoded = norm(weights, "norm", hidden)
        rows = [encoded[b, real[b]].mean(axis=0) if real[b].any() else weights["empty"] for b in range(len(events))]
        return {"placed": placed, "encoded": encoded, "output": np.array(rows)}


@pytest.fixture(scope="module")
def layer() -> HistoryTransformer:
    return TestHistoryTransformer().build()


def test_padding_emptiness_and_unseen(layer: HistoryTransformer) -> None:
    check_history(layer)


def test_order_matters(layer: HistoryTransformer) -> None:
    """By the places alone: with the same place everywhere, the mean forgets the order."""
    events = tf.constant(np.random.default_rng(2).normal(0, 1, (1, 3, 4)), tf.float32)
    real = tf.ones([1, 3], tf.bool)
    assert np.abs(layer(events, real) - layer(events[:, ::-1], real)).max() > 0.01
    same = HistoryTransformer.from_config(layer.get_config())
    same(events, real)
    for one, other in zip(same.weights, layer.weights, strict=True):
        one.assign(other)
    same.places.assign(tf.zeros([3, 4]))
    np.testing.assert_allclose(same(events[:, ::-1], real), same(events, real), rtol=1e-4, atol=1e-5)


def test_multiply_adds(layer: HistoryTransformer) -> None:
    """Per layer two heads of width 4 on 5 events of width 4, 4 -> 16 -> 4; then the mean."""
    block = 2 * (4 * 5 * 4 * 4 + 2 * 25 * 4) + 5 * 2 * 4 * 16
    assert layer.list_multiply_adds(5) == 2 * block + 5 * 4 and layer.item_multiply_adds(5) == 0
