"""The feed-forward network against its equation, with both activations."""

from __future__ import annotations

import numpy as np

from cvr.layers.feed_forward import FeedForward
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, gelu, relu


class TestFeedForwardRelu(LayerCase):
    activation = "relu"

    def make(self) -> FeedForward:
        return FeedForward(5, self.activation)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"x": source.normal(0, 1, (4, 3, 2))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        hidden = dense(weights, "up", inputs["x"])
        active = {"relu": relu, "gelu": gelu}[self.activation](hidden)
        return {"hidden": hidden, "active": active, "output": dense(weights, "down", active)}


class TestFeedForwardGelu(TestFeedForwardRelu):
    activation = "gelu"


def test_multiply_adds() -> None:
    assert FeedForward(5).multiply_adds(3, 2) == 3 * (2 * 5 + 5 * 2)
