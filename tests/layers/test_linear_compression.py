"""Wukong's linear compression against its equation."""

from __future__ import annotations

import numpy as np

from cvr.layers.linear_compression import LinearCompression
from tests.layers.case import Arrays, LayerCase


class TestLinearCompression(LayerCase):
    def make(self) -> LinearCompression:
        return LinearCompression(2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (4, 3, 5))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """Output token l is the sum of the input tokens, weighted by row l."""
        mix, tokens = weights["mix"], inputs["tokens"]
        return {"output": np.stack([sum(mix[row, t] * tokens[:, t] for t in range(3)) for row in range(2)], axis=1)}


def test_multiply_adds() -> None:
    assert LinearCompression(2).multiply_adds(3, 5) == 2 * 3 * 5
