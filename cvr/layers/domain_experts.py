"""Experts of domains: networks side by side, one for each domain."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class DomainExperts(tf.keras.layers.Layer):
    """h_j = f_j(z) = W2_j gelu(W1_j z + b1_j) + b2_j for j = 1 .. D, each with weights of its own (UniScale, 2603.24226; PAPERS 3.9).

    All experts run on all samples, so that shapes are static; which results a sample reads, and what it trains, is for
    `DomainRouting` and `DomainAttention` to say. With one domain it is the shared expert f_s, too.
    """

    def __init__(self, domains: int, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.domains, self.width = domains, width

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W1 [D, Z, E], b1 [D, 1, E], W2 [D, E, E] and b2 [D, 1, E]."""
        first = int(input_shape[-1])
        self.up = self.add_weight("up", shape=[self.domains, first, self.width], initializer=normal(first))
        self.up_bias = self.add_weight("up_bias", shape=[self.domains, 1, self.width], initializer="zeros")
        self.down = self.add_weight("down", shape=[self.domains, self.width, self.width], initializer=normal(self.width, 1.0))
        self.down_bias = self.add_weight("down_bias", shape=[self.domains, 1, self.width], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """z `[N, Z]` -> h `[N, D, E]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `hidden` and `active` `[D, N, E]`, `output` `[N, D, E]`."""
        hidden = tf.matmul(inputs, self.up) + self.up_bias
        active = ACTIVATIONS["gelu"](hidden)
        output = tf.matmul(active, self.down) + self.down_bias
        return {"hidden": hidden, "active": active, "output": tf.transpose(output, [1, 0, 2])}

    def multiply_adds(self, width: int) -> int:
        """Of one row with z of `width` Z: D (Z E + E^2)."""
        return self.domains * self.width * (width + self.width)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "domains": self.domains, "width": self.width}


def own(values: tf.Tensor, domain: tf.Tensor) -> tf.Tensor:
    """What belongs to each sample's domain: values `[N or 1, D, E]`, domain int32 `[N]` -> `[N, E]`.

    A selection, not a sum with weights: other domains' values get a gradient of exactly 0, whatever they are.
    """
    mine = tf.one_hot(domain, values.shape[1], on_value=True, off_value=False, dtype=tf.bool)[:, :, None]
    return tf.reduce_sum(tf.where(mine, values, tf.zeros([], values.dtype)), axis=1)
