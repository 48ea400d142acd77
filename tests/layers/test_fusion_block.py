"""The layer of HHSFT against its equations, with either attention."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvr.layers.fusion_block import FusionBlock
from cvr.layers.global_attention import GlobalAttention
from cvr.layers.heterogeneous_attention import HeterogeneousAttention
from cvr.layers.per_token_ffn import PerTokenFFN
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import gelu, norm
from tests.layers.test_global_attention import composite
from tests.layers.test_heterogeneous_attention import heterogeneous

N, T, D, F, H, K = 4, 3, 4, 5, 2, 3


def fuse(weights: Arrays, tokens: np.ndarray, attention: Callable[..., Arrays], heads: int = H) -> Arrays:
    """S = X + Att(LN(X)), Y = S + FFN(LN(S)), the feed-forward network token by token."""
    inside = {key.removeprefix("attention/"): value for key, value in weights.items() if key.startswith("attention/")}
    attended = attention(inside, norm(weights, "norm_0", tokens), heads)["output"]
    middle = tokens + attended
    before, fed = norm(weights, "norm_1", middle), np.zeros_like(tokens)
    for t in range(tokens.shape[1]):
        hidden = gelu(before[:, t] @ weights["ffn/up"][t] + weights["ffn/up_bias"][t, 0])
        fed[:, t] = hidden @ weights["ffn/down"][t] + weights["ffn/down_bias"][t, 0]
    return {"attended": attended, "middle": middle, "fed": fed, "output": middle + fed}


class TestFusionBlock(LayerCase):
    def make(self) -> FusionBlock:
        return FusionBlock(HeterogeneousAttention(H, K, name="attention"), PerTokenFFN(F, name="ffn"))

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"tokens": source.normal(0, 1, (N, T, D))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return fuse(weights, inputs["tokens"], heterogeneous)


class TestFusionBlockGlobal(TestFusionBlock):
    def make(self) -> FusionBlock:
        return FusionBlock(GlobalAttention(H, K, 5, name="attention"), PerTokenFFN(F, name="ffn"))

    def start(self, source: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return super().start(source, name, shape) * (0.5 if name in ("attention/up", "attention/down") else 1.0)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return fuse(weights, inputs["tokens"], composite)


def test_multiply_adds_are_those_of_its_parts() -> None:
    block = TestFusionBlock().make()
    assert block.multiply_adds(T, D) == H * K * (4 * T * D + 2 * T * T) + 2 * T * D * F
