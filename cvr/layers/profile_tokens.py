"""Vectors of a list's other features as tokens of one width."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class ProfileTokens(tf.keras.layers.Layer):
    """t_f = W_f v_f + b_f for each feature f: vectors of unlike widths become tokens of width D."""

    def __init__(self, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape: Sequence[tf.TensorShape]) -> None:
        """Makes a dense layer per feature, [w_f, D]."""
        self._widths = [int(shape[-1]) for shape in input_shape]
        self._dense = [
            tf.keras.layers.Dense(self.width, kernel_initializer=normal(width, 1.0), name=f"token_{place}")
            for place, width in enumerate(self._widths)
        ]
        super().build(input_shape)

    def call(self, vectors: Sequence[tf.Tensor]) -> tf.Tensor:
        """`[B, w_f]` for each of P features -> `[B, P, D]`."""
        return self.trace(vectors)["output"]

    def trace(self, vectors: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Only `output` `[B, P, D]`."""
        return {"output": tf.stack([layer(vector) for layer, vector in zip(self._dense, vectors, strict=True)], axis=1)}

    @property
    def tokens(self) -> int:
        """P. Needs a built layer."""
        return len(self._widths)

    def multiply_adds(self) -> int:
        """Of one list: sum_f w_f D. Needs a built layer."""
        return sum(self._widths) * self.width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "width": self.width}
