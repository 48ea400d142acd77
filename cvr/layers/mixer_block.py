"""A RankMixer layer."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.per_token_ffn import PerTokenFFN
from cvr.layers.sparse_per_token_ffn import SparsePerTokenFFN
from cvr.layers.token_mixing import TokenMixing


@tf.keras.utils.register_keras_serializable("cvr")
class MixerBlock(tf.keras.layers.Layer):
    """S = LN(TokenMixing(X) + X),  Y = LN(FFN(S) + S): post-norm, LN over D (RankMixer, CIKM'25; PAPERS 3.3).

    `ffn` is a per-token feed-forward network, dense or of sparse experts.
    """

    def __init__(self, ffn: PerTokenFFN | SparsePerTokenFFN, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.ffn = ffn
        self._mixing = TokenMixing(name="mixing")
        self._norms = [tf.keras.layers.LayerNormalization(name=f"norm_{i}") for i in range(2)]

    def call(self, tokens: tf.Tensor, dense_rows: tf.Tensor | None = None) -> tf.Tensor:
        """X `[N, T, D]` -> Y `[N, T, D]`; `dense_rows` bool `[N]` is for sparse experts in training."""
        return self.trace(tokens, dense_rows)["output"]

    def trace(self, tokens: tf.Tensor, dense_rows: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Each step by name, all `[N, T, D]`: `mixed`, `middle` S, `fed` FFN(S), `output` Y."""
        first, second = self._norms
        mixed = self._mixing(tokens)
        middle = first(mixed + tokens)
        fed = self.ffn(middle) if dense_rows is None else self.ffn(middle, dense_rows=dense_rows)
        return {"mixed": mixed, "middle": middle, "fed": fed, "output": second(fed + middle)}

    def multiply_adds(self, tokens: int, width: int) -> int:
        """Those of the feed-forward network."""
        return self.ffn.multiply_adds(tokens, width)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "ffn": tf.keras.layers.serialize(self.ffn)}

    @classmethod
    def from_config(cls, config: dict[str, object]) -> MixerBlock:
        """A block from what `get_config` gave."""
        return cls(**{**config, "ffn": tf.keras.layers.deserialize(config["ffn"])})
