"""A layer of a decoder-only Transformer."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.building import build_all
from cvr.layers.causal_attention import CausalAttention, Memory
from cvr.layers.rms_norm import RMSNorm
from cvr.layers.swi_glu import SwiGLU, hidden_width


@tf.keras.utils.register_keras_serializable("cvr")
class DecoderBlock(tf.keras.layers.Layer):
    """S = X + Att(RMS(X)),  Y = S + SwiGLU(RMS(S)): causal attention with rotary positions, no biases (GPSD, KDD'25; PAPERS 3.12).

    The norms' epsilon, 1e-5, stands inside the root, and the inner width is 32 ceil(floor(2/3 4 d) / 32). The caller norms the last output.
    """

    def __init__(self, heads: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self._attention = CausalAttention(heads, name="attention")
        self._norms = [RMSNorm(name=f"norm_{i}") for i in range(2)]

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes attention, norms and the feed-forward network for tokens of width d."""
        self._ffn = SwiGLU(hidden_width(int(input_shape[-1])), name="ffn")
        build_all([self._attention, *self._norms, self._ffn], input_shape)
        super().build(input_shape)

    def call(self, tokens: tf.Tensor, visible: tf.Tensor, memory: Memory | None = None) -> tf.Tensor:
        """X `[N, L, d]` in order of time, visible bool `[N, L]` -> Y `[N, L, d]`; `memory`, where it is known, is `remember(X)`."""
        return self.trace(tokens, visible, memory)["output"]

    def trace(self, tokens: tf.Tensor, visible: tf.Tensor, memory: Memory | None = None) -> dict[str, tf.Tensor]:
        """Each step by name, all `[N, L, d]`: `attended` Att(.), `middle` S, `fed` SwiGLU(.), `output` Y."""
        attended = self._attention(self._norms[0](tokens), visible, memory)
        return {"attended": attended, **self._feed(tokens + attended)}

    def _feed(self, middle: tf.Tensor) -> dict[str, tf.Tensor]:
        fed = self._ffn(self._norms[1](middle))
        return {"middle": middle, "fed": fed, "output": middle + fed}

    def remember(self, tokens: tf.Tensor) -> Memory:
        """What later tokens read of X `[N, L, d]`. Needs a built layer, as `read` does."""
        return self._attention.remember(self._norms[0](tokens))

    def read(self, tokens: tf.Tensor, memory: Memory, visible: tf.Tensor) -> tf.Tensor:
        """X `[M, d]`, each after a memory of L tokens of which some are visible `[M, L]`, and none after another -> Y `[M, d]`."""
        return self._feed(tokens + self._attention.read(self._norms[0](tokens), memory, visible))["output"]

    def multiply_adds(self, length: int, width: int) -> int:
        """Of one row of L tokens of width d: 4 L d^2 + 2 L^2 d + 3 L d f."""
        return self._attention.multiply_adds(length, width) + 3 * length * width * hidden_width(width)

    def remember_multiply_adds(self, length: int) -> int:
        """Of one row of L tokens: 2 L d^2."""
        return self._attention.remember_multiply_adds(length)

    def read_multiply_adds(self, length: int) -> int:
        """Of a token after L others: 4 d^2 + 2 L d + 3 d f."""
        return self._attention.read_multiply_adds(length) + self._ffn.multiply_adds(1, self._attention.width)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads}
