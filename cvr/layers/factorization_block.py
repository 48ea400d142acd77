"""Wukong's factorization machine block."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class FactorizationBlock(tf.keras.layers.Layer):
    """out = reshape(MLP(LN(flatten(X (X^T Y))))) into `tokens` n_F tokens of width d (Wukong 2024, FMB; PAPERS 3.7).

    X (X^T Y) with Y `[n, k]` learned is the factorization machine's X X^T, all dot products of two tokens, brought down from n to `rank` k
    columns; with `rank` 0 it is X X^T itself. The MLP has `mlp_layers` hidden ReLU layers of `mlp_width` and a linear last one.
    """

    def __init__(self, tokens: int, rank: int, mlp_width: int, mlp_layers: int = 1, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.tokens, self.rank, self.mlp_width, self.mlp_layers = tokens, rank, mlp_width, mlp_layers

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes Y, whose columns keep the size of what they mix, the norm and the MLP."""
        count, width = int(input_shape[1]), int(input_shape[2])
        if self.rank:
            self.mix = self.add_weight("mix", shape=[count, self.rank], initializer=normal(count, 1.0))
        self._norm = tf.keras.layers.LayerNormalization(name="norm")
        self._mlp = [
            tf.keras.layers.Dense(self.mlp_width, "relu", kernel_initializer="he_normal", name=f"mlp_{i}") for i in range(self.mlp_layers)
        ]
        self._last = tf.keras.layers.Dense(self.tokens * width, name="last")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """X `[N, n, d]` -> `[N, n_F, d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `products` `[N, n, k]`, `normed` `[N, n k]`, `mlp_0`, ... `[N, mlp_width]`, `output` `[N, n_F, d]`."""
        count, width = inputs.shape[1], inputs.shape[2]
        products = tf.matmul(inputs, self._mixed(inputs) if self.rank else inputs, transpose_b=True)
        current = self._norm(tf.reshape(products, [-1, count * (self.rank or count)]))
        steps = {"products": products, "normed": current}
        for place, layer in enumerate(self._mlp):
            current = steps[f"mlp_{place}"] = layer(current)
        return {**steps, "output": tf.reshape(self._last(current), [-1, self.tokens, width])}

    def _mixed(self, inputs: tf.Tensor) -> tf.Tensor:
        """Y^T X `[N, k, d]`: k mixtures of the tokens."""
        return tf.matmul(tf.transpose(tf.cast(self.mix, inputs.dtype)), inputs)

    def multiply_adds(self, tokens: int, width: int) -> int:
        """Of one row of n tokens of width d: 2 n d k (n^2 d with rank 0), and the MLP from n k to n_F d."""
        columns = self.rank or tokens
        products = 2 * tokens * width * self.rank if self.rank else tokens * tokens * width
        if not self.mlp_layers:
            return products + tokens * columns * self.tokens * width
        hidden = (self.mlp_layers - 1) * self.mlp_width**2
        return products + self.mlp_width * (tokens * columns + self.tokens * width) + hidden

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("tokens", "rank", "mlp_width", "mlp_layers")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
