"""A norm by the root mean square."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class RMSNorm(tf.keras.layers.Layer):
    """y = gamma x / sqrt(mean_d x_d^2 + eps) over the last axis: no mean is taken off and nothing added (Zhang and Sennrich 2019).

    With `eps_outside` y = gamma x / (sqrt(mean_d x_d^2) + eps), as in SUAN's code (PAPERS 3.8). The mean square is taken in float32 where
    layers compute in bfloat16.
    """

    def __init__(self, epsilon: float = 1e-5, eps_outside: bool = False, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.epsilon, self.eps_outside = epsilon, eps_outside

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes gamma [d], 1 at the start."""
        self.gamma = self.add_weight("gamma", shape=[int(input_shape[-1])], initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[..., d]` -> `[..., d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `square` mean x^2 `[..., 1]`, `output` `[..., d]`."""
        exact = tf.cast(inputs, tf.float32) if inputs.dtype.size < 4 else inputs
        square = tf.reduce_mean(tf.square(exact), axis=-1, keepdims=True)
        epsilon = tf.constant(self.epsilon, square.dtype)
        if self.eps_outside:
            # where x is 0 throughout, the root's slope is infinite; its part of the gradient is 0 there
            safe = tf.where(square > 0, square, tf.ones_like(square))
            scale = 1.0 / (tf.where(square > 0, tf.sqrt(safe), tf.zeros_like(square)) + epsilon)
        else:
            scale = tf.math.rsqrt(square + epsilon)
        return {"square": square, "output": tf.cast(exact * scale, inputs.dtype) * tf.cast(self.gamma, inputs.dtype)}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "epsilon": self.epsilon, "eps_outside": self.eps_outside}
