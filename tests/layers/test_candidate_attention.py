"""Attention of histories and candidates against its equations, key by key; what they see of one another."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.candidate_attention import CandidateAttention
from tests.layers.case import Arrays, LayerCase
from tests.layers.unified import read

H, K, D = 2, 5, 4
HIDDEN = -1e9


class TestCandidateAttention(LayerCase):
    """Five candidates of three lists in tiles of two; one list without a real event, some events on the candidate itself."""

    def make(self) -> CandidateAttention:
        return CandidateAttention(H, tile=2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        newer = np.tril(np.ones((K, K), bool), -1)  # j < i is more recent
        own = source.normal(0, 1, (3, K + 1))
        own[0, 3:K], own[2, :K] = HIDDEN, HIDDEN
        return {
            "candidates": source.normal(0, 1, (5, D)),
            "history": source.normal(0, 1, (3, K, D)),
            "candidate_bias": own,
            "match": np.arange(5)[:, None] == np.array([0, 1, 1, 4, 3])[None, :],
            "bias": np.where(newer, HIDDEN, source.normal(0, 1, (3, 1, 1, K, K))),
            "list_index": np.array([0, 0, 1, 0, 2], np.int32),
        }

    def arguments(self, tensors: list) -> tuple:
        return (*tensors[:4], (tensors[4],), *tensors[5:])

    def result(self, found: tuple) -> tf.Tensor:
        return found[0]

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {name: value[order] if name in ("candidates", "match", "list_index") else value for name, value in inputs.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        shares, output = [], []
        for n, row in enumerate(inputs["list_index"]):
            tokens = np.concatenate([inputs["history"][row], inputs["candidates"][n : n + 1]])
            found = read(weights, tokens[-1], tokens, H, inputs["candidate_bias"][row], np.append(inputs["match"][n], False))
            shares.append(found[0].reshape(-1))
            output.append(found[1])
        none = np.zeros(K, bool)
        history = [
            [read(weights, token, tokens, H, inputs["bias"][row, 0, 0, i], none)[1] for i, token in enumerate(tokens)]
            for row, tokens in enumerate(inputs["history"])
        ]
        return {"weights": np.stack(shares), "output": np.stack(output), "history": np.array(history)}


@pytest.fixture(scope="module")
def layer() -> CandidateAttention:
    return TestCandidateAttention().build()


def _arguments() -> list:
    stored = TestCandidateAttention().stored("inputs")
    return [tf.constant(x, tf.float32 if x.dtype.kind == "f" else None) for x in stored.values()]


def test_a_changed_event_changes_no_older_one(layer: CandidateAttention) -> None:
    case, tensors = TestCandidateAttention(), _arguments()
    before = layer(*case.arguments(tensors))[1].numpy()
    changed = tensors[1].numpy()
    changed[:, 2] += 1.0
    after = layer(*case.arguments([tensors[0], changed, *tensors[2:]]))[1].numpy()
    np.testing.assert_array_equal(after[:, 3:], before[:, 3:])
    assert np.abs(after[:, :3] - before[:, :3]).max(axis=(0, 2)).min() > 1e-3


def test_without_bias_only_candidates_are_read(layer: CandidateAttention) -> None:
    tensors = _arguments()
    output, none = layer(*tensors[:4], (), tensors[5])
    assert none is None
    np.testing.assert_array_equal(output, layer(*TestCandidateAttention().arguments(tensors))[0])


def test_tiles_do_not_matter_and_a_copy_of_the_history_is_the_same(layer: CandidateAttention) -> None:
    case, tensors = TestCandidateAttention(), _arguments()
    expected = layer(*case.arguments(tensors))[0]
    for tile in (1, 4):
        other = CandidateAttention(H, tile=tile)
        other(*case.arguments(tensors))
        for one, value in zip(other.weights, layer.weights, strict=True):
            one.assign(value)
        np.testing.assert_allclose(other(*case.arguments(tensors))[0], expected, rtol=1e-5, atol=1e-5)
    history, bias, index = tensors[1], tensors[2], tensors[5]
    alone = layer(tensors[0], tf.gather(history, index), tf.gather(bias, index), tensors[3])[0]
    np.testing.assert_allclose(alone, expected, rtol=1e-5, atol=1e-5)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads, 3, must divide the width, 4"):
        CandidateAttention(3)(*TestCandidateAttention().arguments(_arguments()))


def test_multiply_adds() -> None:
    """7 events of width 4: queries and output, all pairs twice; sparse, 3 blocks of 3 with 5 keys and 2 classes of 4."""
    assert CandidateAttention(2).history_multiply_adds(7, 4) == 2 * 7 * 16 + 2 * 49 * 4
    assert CandidateAttention(2, window=3, dilation=2).history_multiply_adds(7, 4) == 2 * 7 * 16 + 2 * (3 * 3 * 5 + 2 * 16) * 4
    assert CandidateAttention.keys_multiply_adds(7, 4) == 2 * 7 * 16
    assert CandidateAttention.candidate_multiply_adds(7, 4) == 4 * 16 + 2 * 7 * 4
