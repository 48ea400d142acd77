"""The MaskNet block."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class MaskBlock(tf.keras.layers.Layer):
    """out = ReLU(LN(W (mask * x) + b)),  mask = U ReLU(V x0 + b_1) + b_2 (MaskNet 2021; paper 3.1, PAPERS R22, 3.2).

    The mask always sees x0, also in a block stacked on another. Its hidden width is `aggregation` (the paper's FLOPs say twice the width
    of x0). The mask is not squashed, the layer norm (epsilon 1e-3) comes before the ReLU and can be switched off.
    """

    def __init__(self, width: int, aggregation: int, layer_norm: bool = True, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width, self.aggregation, self.layer_norm = width, aggregation, layer_norm

    def build(self, input_shape: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """Makes the mask's two layers, the output layer and its norm."""
        masked = int(input_shape[1][-1])
        self._aggregate = tf.keras.layers.Dense(self.aggregation, "relu", kernel_initializer="he_normal", name="aggregate")
        self._mask = tf.keras.layers.Dense(masked, name="mask")
        self._output = tf.keras.layers.Dense(self.width, kernel_initializer="he_normal", name="output")
        self._norm = tf.keras.layers.LayerNormalization(name="norm") if self.layer_norm else None
        super().build(input_shape)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """(x0 `[N, D0]`, x `[N, D]`) -> `[N, width]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Each step by name: `aggregated` `[N, aggregation]`, `mask` and `masked` `[N, D]`, `hidden`, `normed`, `output` `[N, width]`."""
        first, current = inputs
        aggregated = self._aggregate(first)
        mask = self._mask(aggregated)
        masked = mask * current
        hidden = self._output(masked)
        normed = self._norm(hidden) if self._norm else hidden
        steps = {"aggregated": aggregated, "mask": mask, "masked": masked, "hidden": hidden, "normed": normed}
        return {**steps, "output": tf.nn.relu(normed)}

    def multiply_adds(self, first: int, masked: int) -> int:
        """Of one row with x0 of width `first` and x of width `masked`: t (first + masked) + masked * width, t the aggregation."""
        return self.aggregation * (first + masked) + masked * self.width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "width": self.width, "aggregation": self.aggregation, "layer_norm": self.layer_norm}
