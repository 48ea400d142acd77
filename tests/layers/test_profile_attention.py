"""Attention to a profile against its equations, token by token; the order of its tokens, tiles and the scale."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.profile_attention import ProfileAttention
from tests.layers.case import Arrays, LayerCase
from tests.layers.unified import cross

H = 2


class TestProfileAttention(LayerCase):
    """Five candidates of three lists in tiles of two, and histories of two tokens; four profile tokens."""

    def make(self) -> ProfileAttention:
        return ProfileAttention(H, tile=2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        shapes = {"candidates": (5, 4), "tokens": (3, 4, 4), "history": (3, 2, 4)}
        arrays = {name: source.normal(0, 1, shape) for name, shape in shapes.items()}
        return {**arrays, "list_index": np.array([0, 0, 1, 0, 2], np.int32)}

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def result(self, found: tuple) -> tf.Tensor:
        return found[0]

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {name: value[order] if name in ("candidates", "list_index") else value for name, value in inputs.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        own = [
            cross(weights, row[None], inputs["tokens"][n], H)[0]
            for row, n in zip(inputs["candidates"], inputs["list_index"], strict=True)
        ]
        histories = [cross(weights, history, tokens, H) for history, tokens in zip(inputs["history"], inputs["tokens"], strict=True)]
        return {"output": np.stack(own), "history": np.stack(histories)}


@pytest.fixture(scope="module")
def layer() -> ProfileAttention:
    return TestProfileAttention().build()


def _inputs() -> dict[str, tf.Tensor]:
    stored = TestProfileAttention().stored("inputs")
    return {name: tf.constant(x, tf.float32 if x.dtype.kind == "f" else None) for name, x in stored.items()}


def test_permuted_profile_tokens_change_nothing(layer: ProfileAttention) -> None:
    inputs = _inputs()
    before, permuted = layer(**inputs), layer(**{**inputs, "tokens": tf.gather(inputs["tokens"], [2, 0, 3, 1], axis=1)})
    for one, other in zip(before, permuted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_repeated_profile_changes_nothing(layer: ProfileAttention) -> None:
    """By sqrt(head width) a softmax over every token twice is the same; SUAN's root of the number of tokens would make it another."""
    inputs = _inputs()
    twice = layer(**{**inputs, "tokens": tf.tile(inputs["tokens"], [1, 2, 1])})
    np.testing.assert_allclose(twice[0], layer(**inputs)[0], rtol=1e-5, atol=1e-6)


def test_without_history_or_index(layer: ProfileAttention) -> None:
    """Candidate n of list n; any size of tiles."""
    inputs = _inputs()
    every = tf.gather(inputs["tokens"], inputs["list_index"])
    alone, none = layer(inputs["candidates"], every)
    assert none is None
    np.testing.assert_allclose(alone, layer(**inputs)[0], rtol=1e-5, atol=1e-6)


def test_multiply_adds() -> None:
    assert ProfileAttention.tokens_multiply_adds(3, 4) == 3 * 4 * 8
    assert ProfileAttention.query_multiply_adds(3, 4) == 4 * 4 + 4 * 4 + 2 * 3 * 4
