"""RankMixer's token mixing."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class TokenMixing(tf.keras.layers.Layer):
    """s^h = [x_1^(h); ...; x_T^(h)]: token h of the output holds head h of every token (RankMixer, CIKM'25; PAPERS R30, 3.3).

    Each token is cut into as many heads as there are tokens, H = T, so that the shape stays. Nothing is learned, nothing is multiplied,
    and doing it twice gives the input back.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Raises ValueError where the tokens' width is no multiple of their number."""
        tokens, width = int(input_shape[-2]), int(input_shape[-1])
        if width % tokens:
            raise ValueError(f"{tokens} tokens cannot mix heads of tokens of width {width}: the width must be a multiple of {tokens}")
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """X `[N, T, D]` -> `[N, T, D]`."""
        return self.trace(tokens)["output"]

    def trace(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `heads` `[N, T, H, D / H]`, `output` `[N, H, D]`."""
        count, width = tokens.shape[1], tokens.shape[2]
        heads = tf.reshape(tokens, [-1, count, count, width // count])
        return {"heads": heads, "output": tf.reshape(tf.transpose(heads, [0, 2, 1, 3]), [-1, count, width])}

    def multiply_adds(self) -> int:
        """None."""
        return 0
