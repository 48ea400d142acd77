"""The Wukong layer against its equations: interactions before compressed tokens, a residual, the norm last."""

from __future__ import annotations

import numpy as np

from cvr.layers.wukong_block import WukongBlock
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import norm
from tests.layers.test_factorization_block import factorise


class TestWukongBlock(LayerCase):
    linear_tokens = 2

    def make(self) -> WukongBlock:
        return WukongBlock(fm_tokens=2, linear_tokens=self.linear_tokens, rank=2, mlp_width=5)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (4, 3, 4))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """LN(concat(FMB, LCB) + R X), R the identity where three tokens become three."""
        tokens = inputs["tokens"]
        inside = {key.removeprefix("fm/"): value for key, value in weights.items() if key.startswith("fm/")}
        fm = factorise(inside, tokens, 2, 1, 2)["output"]
        linear = weights["linear/mix"] @ tokens
        shortcut = tokens if self.linear_tokens == 1 else weights["shortcut/mix"] @ tokens
        output = norm(weights, "norm", np.concatenate([fm, linear], axis=1) + shortcut)
        return {"fm": fm, "linear": linear, "shortcut": shortcut, "output": output}


class TestWukongBlockOfTheSameLength(TestWukongBlock):
    linear_tokens = 1


def test_multiply_adds() -> None:
    """The residual costs nothing where the number of tokens stays."""
    fm = 2 * 3 * 4 * 2 + 3 * 2 * 5 + 5 * 2 * 4
    assert WukongBlock(2, 2, 2, 5).multiply_adds(3, 4) == fm + 2 * 3 * 4 + 4 * 3 * 4
    assert WukongBlock(2, 1, 2, 5).multiply_adds(3, 4) == fm + 1 * 3 * 4
