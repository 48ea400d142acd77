"""The decoder layer against its equations."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.decoder_block import DecoderBlock
from tests.layers.case import Arrays, LayerCase
from tests.layers.test_causal_attention import causal_attention
from tests.layers.test_rms_norm import rms_norm
from tests.layers.test_swi_glu import swi_glu


def decoder_block(weights: Arrays, tokens: np.ndarray, visible: np.ndarray, heads: int) -> Arrays:
    """S = X + Att(RMS(X)), Y = S + SwiGLU(RMS(S))."""

    def inside(name: str) -> Arrays:
        return {key.removeprefix(name + "/"): value for key, value in weights.items() if key.startswith(name + "/")}

    attended = causal_attention(inside("attention"), rms_norm(weights["norm_0/gamma"], tokens), visible, heads)["output"]
    middle = tokens + attended
    fed = swi_glu(inside("ffn"), rms_norm(weights["norm_1/gamma"], middle))["output"]
    return {"attended": attended, "middle": middle, "fed": fed, "output": middle + fed}


class TestDecoderBlock(LayerCase):
    places = 2

    def make(self) -> DecoderBlock:
        return DecoderBlock(heads=2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        visible = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], bool)
        return {"tokens": source.normal(0, 1, (4, 3, 4)), "visible": visible}

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def start(self, source: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return super().start(source, name, shape) * (0.3 if "ffn" in name else 1.0)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return decoder_block(weights, inputs["tokens"], inputs["visible"], 2)


def test_a_token_read_after_all_others_is_the_last_of_them() -> None:
    layer, inputs = TestDecoderBlock().build(), TestDecoderBlock().stored("inputs")
    tokens, visible = tf.constant(inputs["tokens"][:2], tf.float32), tf.constant(inputs["visible"][:2])
    read = layer.read(tokens[:, 2], layer.remember(tokens[:, :2]), visible[:, :2])
    np.testing.assert_allclose(read, layer(tokens, visible)[:, 2], rtol=1e-5, atol=1e-5)
    known = layer(tokens, visible, layer.remember(tokens))
    np.testing.assert_array_equal(known, layer(tokens, visible))


def test_multiply_adds() -> None:
    """On 5 tokens of width 4: attention, and 4 -> 32 -> 4 with a gate."""
    layer = TestDecoderBlock().build()
    assert layer.multiply_adds(5, 4) == 4 * 5 * 16 + 2 * 25 * 4 + 5 * 3 * 4 * 32
    assert layer.remember_multiply_adds(5) == 2 * 5 * 16
    assert layer.read_multiply_adds(5) == 4 * 16 + 2 * 5 * 4 + 3 * 4 * 32
