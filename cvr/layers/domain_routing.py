"""DREF: a shared expert and the domain's own, weighed by the sample."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.domain_experts import own


@tf.keras.utils.register_keras_serializable("cvr")
class DomainRouting(tf.keras.layers.Layer):
    """e = a_s f_s(z) + a_d f_d(z),  (a_s, a_d) = softmax(A z + c), d the sample's domain (UniScale's DREF, 2603.24226; PAPERS 3.9).

    The domain alone routes: a sample reads and trains f_s and its own domain's expert, and no other expert gets any gradient of it. The
    gate weighs the two. That its weights sum to 1 is our reading.
    """

    def build(self, input_shape: tuple[tf.TensorShape, ...]) -> None:
        """Makes the gate A [Z, 2] and c [2]."""
        self._gate = tf.keras.layers.Dense(2, name="gate")
        super().build(input_shape)

    def call(self, inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """(z `[N, Z]`, f_s(z) `[N, E]`, all domains' f_j(z) `[N, D, E]`, domain int32 `[N]`) -> e `[N, E]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """Each step by name: `gates` (a_s, a_d) `[N, 2]`, `own` f_d(z) and `output` `[N, E]`."""
        z, shared, experts, domain = inputs
        gates, mine = tf.nn.softmax(self._gate(z)), own(experts, domain)
        return {"gates": gates, "own": mine, "output": gates[:, :1] * shared + gates[:, 1:] * mine}

    def multiply_adds(self, width: int) -> int:
        """Of one row with z of `width` Z: 2 Z."""
        return 2 * width
