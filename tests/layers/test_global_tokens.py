"""Global tokens: the order in which the projection is cut, and the layers before it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.global_tokens import GlobalTokens
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, relu


class TestGlobalTokens(LayerCase):
    def make(self) -> GlobalTokens:
        return GlobalTokens(tokens=3, width=2, layers=2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"x": source.normal(0, 1, (4, 5))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """Token i is the numbers 2 i and 2 i + 1 of W ReLU(W x + b) + b."""
        hidden = relu(dense(weights, "hidden_0", inputs["x"]))
        flat = dense(weights, "last", hidden)
        output = np.stack([flat[:, 2 * token : 2 * token + 2] for token in range(3)], axis=1)
        return {"layer_0": hidden, "layer_1": flat, "output": output}


def test_without_layers_the_input_is_cut() -> None:
    tokens = GlobalTokens(3, 2, layers=0)(tf.reshape(tf.range(12.0), [2, 6]))
    np.testing.assert_array_equal(tokens, [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]])


def test_without_layers_the_width_must_fit() -> None:
    with pytest.raises(ValueError, match="3 tokens of width 2 need an input of width 6, not 7"):
        GlobalTokens(3, 2, layers=0)(tf.ones([1, 7]))


@pytest.mark.parametrize(("layers", "expected"), [(0, 0), (1, 5 * 6), (2, 5 * 6 + 6 * 6), (4, 5 * 6 + 3 * 6 * 6)])
def test_multiply_adds(layers: int, expected: int) -> None:
    assert GlobalTokens(3, 2, layers).multiply_adds(5) == expected
