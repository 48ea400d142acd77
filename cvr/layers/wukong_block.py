"""A Wukong layer."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.factorization_block import FactorizationBlock
from cvr.layers.linear_compression import LinearCompression


@tf.keras.utils.register_keras_serializable("cvr")
class WukongBlock(tf.keras.layers.Layer):
    """Y = LN(concat(FMB(X), LCB(X)) + R X): n_F + n_L tokens, interactions first (Wukong 2024; PAPERS 3.7).

    R is the identity where the number of tokens stays, and a linear compression where it does not. Each layer doubles the highest order of
    the interactions: the factorization block squares it, the compression keeps the lower ones.
    """

    def __init__(
        self, fm_tokens: int, linear_tokens: int, rank: int, mlp_width: int, mlp_layers: int = 1, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.fm_tokens, self.linear_tokens = fm_tokens, linear_tokens
        self.rank, self.mlp_width, self.mlp_layers = rank, mlp_width, mlp_layers
        self._fm = FactorizationBlock(fm_tokens, rank, mlp_width, mlp_layers, name="fm")
        self._linear = LinearCompression(linear_tokens, name="linear")
        self._shortcut = LinearCompression(self.tokens, name="shortcut")
        self._norm = tf.keras.layers.LayerNormalization(name="norm")

    @property
    def tokens(self) -> int:
        """Of the output: n_F + n_L."""
        return self.fm_tokens + self.linear_tokens

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """X `[N, n, d]` -> Y `[N, n_F + n_L, d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `fm` `[N, n_F, d]`, `linear` `[N, n_L, d]`, `shortcut` and `output` `[N, n_F + n_L, d]`."""
        factors, linear = self._fm(inputs), self._linear(inputs)
        shortcut = inputs if inputs.shape[1] == self.tokens else self._shortcut(inputs)
        output = self._norm(tf.concat([factors, linear], axis=1) + shortcut)
        return {"fm": factors, "linear": linear, "shortcut": shortcut, "output": output}

    def multiply_adds(self, tokens: int, width: int) -> int:
        """Of one row of n tokens of width d: FMB, LCB and, where n is not n_F + n_L, R."""
        shortcut = 0 if tokens == self.tokens else self._shortcut.multiply_adds(tokens, width)
        return self._fm.multiply_adds(tokens, width) + self._linear.multiply_adds(tokens, width) + shortcut

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("fm_tokens", "linear_tokens", "rank", "mlp_width", "mlp_layers")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
