"""Profile tokens against their equation."""

from __future__ import annotations

import numpy as np

from cvr.layers.profile_tokens import ProfileTokens
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense


class TestProfileTokens(LayerCase):
    """Features of width 2, 5 and 1."""

    def make(self) -> ProfileTokens:
        return ProfileTokens(4)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {f"v{f}": source.normal(0, 1, (4, width)) for f, width in enumerate((2, 5, 1))}

    def arguments(self, tensors: list) -> tuple:
        return (list(tensors),)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return {"output": np.stack([dense(weights, f"token_{f}", inputs[f"v{f}"]) for f in range(3)], axis=1)}


def test_counts() -> None:
    layer = TestProfileTokens().build()
    assert layer.tokens == 3 and layer.multiply_adds() == (2 + 5 + 1) * 4
