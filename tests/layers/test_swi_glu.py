"""The gated feed-forward network against its equation, without and with biases."""

from __future__ import annotations

import numpy as np

from cvr.layers.swi_glu import SwiGLU, hidden_width
from tests.layers.case import Arrays, LayerCase


def swi_glu(weights: Arrays, x: np.ndarray) -> Arrays:
    """W_3 (SiLU(W_1 x) * (W_2 x)); a missing bias is none."""

    def dense(name: str, values: np.ndarray) -> np.ndarray:
        return values @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0.0)

    raw = dense("gate", x)
    gate = raw / (1.0 + np.exp(-raw))
    inner = gate * dense("up", x)
    return {"gate": gate, "inner": inner, "output": dense("down", inner)}


class TestSwiGLU(LayerCase):
    bias = False

    def make(self) -> SwiGLU:
        return SwiGLU(6, bias=self.bias)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"x": source.normal(0, 1, (4, 3, 4))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return swi_glu(weights, inputs["x"])


class TestSwiGLUBias(TestSwiGLU):
    bias = True


def test_sizes() -> None:
    """The inner width of GPSD's sizes, and the products of 5 tokens of width 4."""
    assert [hidden_width(d) for d in (8, 32, 64, 128, 256)] == [32, 96, 192, 352, 704]
    assert SwiGLU(6).multiply_adds(5, 4) == 5 * 3 * 4 * 6
