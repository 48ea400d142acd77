"""Global tokens: the projected input, cut into a sequence."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class GlobalTokens(tf.keras.layers.Layer):
    """X = split(f(x0)) into T tokens of width d: token i is f(x0)[i d : (i + 1) d] (paper section 3.1, PAPERS R28).

        f = W_k ReLU( ... ReLU(W_1 x0 + b_1) ... ) + b_k,  k = `layers`, each T d wide

    x0 is a ReLU projection of all features, so every token sees all of them, and T d need not divide anything. The last layer is linear:
    tokens may take either sign. The paper's FLOPs say k = 2; with k = 0 the projection itself is cut.
    """

    def __init__(self, tokens: int, width: int, layers: int = 2, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.tokens, self.width, self.layers = tokens, width, layers

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the layers. Raises ValueError for an input that cannot be cut."""
        total = self.tokens * self.width
        if not self.layers and int(input_shape[-1]) != total:
            raise ValueError(f"{self.tokens} tokens of width {self.width} need an input of width {total}, not {input_shape[-1]}")
        self._hidden = [
            tf.keras.layers.Dense(total, "relu", kernel_initializer="he_normal", name=f"hidden_{i}") for i in range(self.layers - 1)
        ]
        self._last = [tf.keras.layers.Dense(total, name="last")] if self.layers else []
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """x0 `[N, D0]` -> X `[N, T, d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `layer_0`, ... `[N, T d]`, `output` `[N, T, d]`."""
        steps: dict[str, tf.Tensor] = {}
        current = inputs
        for place, layer in enumerate([*self._hidden, *self._last]):
            current = steps[f"layer_{place}"] = layer(current)
        return {**steps, "output": tf.reshape(current, [-1, self.tokens, self.width])}

    def multiply_adds(self, first: int) -> int:
        """Of one row with x0 of width `first`."""
        total = self.tokens * self.width
        return first * total + (self.layers - 1) * total * total if self.layers else 0

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "tokens": self.tokens, "width": self.width, "layers": self.layers}
