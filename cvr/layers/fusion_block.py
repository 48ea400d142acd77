"""A layer of HHSFT: some attention between tokens, then a feed-forward network per token."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.global_attention import GlobalAttention
from cvr.layers.heterogeneous_attention import HeterogeneousAttention
from cvr.layers.per_token_ffn import PerTokenFFN


@tf.keras.utils.register_keras_serializable("cvr")
class FusionBlock(tf.keras.layers.Layer):
    """S = X + Att(LN(X)),  Y = S + FFN(LN(S)): a layer of HFA or of GFA, by its `attention` (UniScale, 2603.24226; PAPERS 3.9).

    The feed-forward network has weights of each token's own in both. Where the norms stand is not said: here before, over d, as in the
    Transformer, so that the caller norms the last output.
    """

    def __init__(self, attention: HeterogeneousAttention | GlobalAttention, ffn: PerTokenFFN, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.attention, self.ffn = attention, ffn
        self._norms = [tf.keras.layers.LayerNormalization(name=f"norm_{i}") for i in range(2)]

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """X `[N, T, d]` -> Y `[N, T, d]`."""
        return self.trace(tokens)["output"]

    def trace(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name, all `[N, T, d]`: `attended` Att(.), `middle` S, `fed` FFN(.), `output` Y."""
        first, second = self._norms
        attended = self.attention(first(tokens))
        middle = tokens + attended
        fed = self.ffn(second(middle))
        return {"attended": attended, "middle": middle, "fed": fed, "output": middle + fed}

    def multiply_adds(self, length: int, width: int) -> int:
        """Those of the attention and of the feed-forward network."""
        return self.attention.multiply_adds(length, width) + self.ffn.multiply_adds(length, width)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        parts = {name: tf.keras.layers.serialize(getattr(self, name)) for name in ("attention", "ffn")}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> FusionBlock:
        """A block from what `get_config` gave."""
        return cls(**{**config, **{name: tf.keras.layers.deserialize(config[name]) for name in ("attention", "ffn")}})
