"""A Transformer encoder layer."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.feed_forward import FeedForward
from cvr.layers.self_attention import SelfAttention


@tf.keras.utils.register_keras_serializable("cvr")
class EncoderBlock(tf.keras.layers.Layer):
    """Self-attention and a feed-forward network, each with a residual and a layer norm over d (Vaswani et al. 2017, 3.1).

        pre_norm      S = X + Att(LN(X)),   Y = S + FFN(LN(S))        trains at any depth; the caller norms the last output
        post_norm     S = LN(X + Att(X)),   Y = LN(S + FFN(S))        the original

    The paper does not say where its norms stand (PAPERS 3.4). No dropout, no positions: global tokens have fixed places.
    """

    def __init__(
        self, heads: int, head_width: int, ffn_width: int, activation: str = "relu", norm: str = "pre", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        if norm not in ("pre", "post"):
            raise ValueError(f"norm is pre or post, not {norm!r}")
        self.heads, self.head_width, self.ffn_width = heads, head_width, ffn_width
        self.activation, self.norm = activation, norm
        self._attention = SelfAttention(heads, head_width, name="attention")
        self._ffn = FeedForward(ffn_width, activation, name="ffn")
        self._norms = [tf.keras.layers.LayerNormalization(name=f"norm_{i}") for i in range(2)]

    def call(self, tokens: tf.Tensor, visible: tf.Tensor | None = None) -> tf.Tensor:
        """X `[N, L, d]`, visible bool `[N, L]` (all by default) -> Y `[N, L, d]`."""
        return self.trace(tokens, visible)["output"]

    def trace(self, tokens: tf.Tensor, visible: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Each step by name, all `[N, L, d]`: `attended` Att(.), `middle` S, `fed` FFN(.), `output` Y."""
        first, second = self._norms
        if self.norm == "pre":
            attended = self._attention(first(tokens), visible=visible)
            middle = tokens + attended
            fed = self._ffn(second(middle))
            return {"attended": attended, "middle": middle, "fed": fed, "output": middle + fed}
        attended = self._attention(tokens, visible=visible)
        middle = first(tokens + attended)
        fed = self._ffn(middle)
        return {"attended": attended, "middle": middle, "fed": fed, "output": second(middle + fed)}

    def multiply_adds(self, length: int, width: int) -> int:
        """Of one row of L tokens of width d: H (4 L d k + 2 L^2 k) + 2 L d f."""
        return self._attention.multiply_adds(length, width) + self._ffn.multiply_adds(length, width)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("heads", "head_width", "ffn_width", "activation", "norm")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
