"""DAPGA: what the sample's domain takes from all domains' experts, gated number by number."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.domain_experts import own
from cvr.layers.initial import normal


@tf.keras.utils.register_keras_serializable("cvr")
class DomainAttention(tf.keras.layers.Layer):
    """out = g * sum_j w_j v_j,  w = softmax_j(q k_j / sqrt(E)),  q = Q h_d,  k_j = K h_j,  v_j = V h_j,  g = sigmoid(G u + b_d).

    UniScale's DAPGA (2603.24226; PAPERS 3.9): h_j is domain j's expert on the sample, d the sample's domain, u what the gate reads.
    Keys and values of other domains are constants to the gradient, which goes back through the query, the own key and the own value only;
    so a sample trains no other domain's expert. Q, K and V are shared by the domains. With one domain the sum is v_d, and there is neither
    Q nor K.
    """

    def __init__(self, domains: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.domains = domains

    def build(self, input_shape: tuple[tf.TensorShape, ...]) -> None:
        """Makes Q, K and V [E, E], the gate's G [U, E] and its biases [1, D, E], one of each domain."""
        width = int(input_shape[0][-1])
        names = ("query", "key", "value") if self.domains > 1 else ("value",)
        self._maps = {
            name: tf.keras.layers.Dense(width, use_bias=False, kernel_initializer=normal(width, 1.0), name=name) for name in names
        }
        self._gate = tf.keras.layers.Dense(width, use_bias=False, name="gate")
        self.gate_bias = self.add_weight("gate_bias", shape=[1, self.domains, width], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """(all domains' h `[N, D, E]`, u `[N, U]`, domain int32 `[N]`) -> `[N, E]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """Each step by name: `query` `[N, E]`, `key` and `value` `[N, D, E]`, `weights` `[N, D]` (these but `value` with several domains
        only), `read`, `gate` and `output` `[N, E]`."""
        experts, reader, domain = inputs
        steps = self._read(experts, domain)
        gate = tf.sigmoid(self._gate(reader) + own(self.gate_bias, domain))
        return {**steps, "gate": gate, "output": gate * steps["read"]}

    def _read(self, experts: tf.Tensor, domain: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.domains == 1:
            value = self._maps["value"](experts)
            return {"value": value, "read": value[:, 0]}
        query = self._maps["query"](own(experts, domain))
        mine = tf.one_hot(domain, self.domains, on_value=True, off_value=False, dtype=tf.bool)[:, :, None]
        key, value = (_only(mine, self._maps[name](experts)) for name in ("key", "value"))
        logits = tf.matmul(key, query[:, :, None])[:, :, 0] / tf.cast(query.shape[1], query.dtype) ** 0.5
        weights = tf.nn.softmax(logits)
        read = tf.matmul(weights[:, None, :], value)[:, 0]
        return {"query": query, "key": key, "value": value, "weights": weights, "read": read}

    def multiply_adds(self, width: int, reader: int) -> int:
        """Of one row with h of `width` E and u of width `reader` U: U E and E^2 (1 + 2 D) + 2 D E, or E^2 with one domain."""
        read = width * width * (1 + 2 * self.domains) + 2 * self.domains * width if self.domains > 1 else width * width
        return reader * width + read

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "domains": self.domains}


def _only(mine: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The same values, of which those of other domains are constants."""
    return tf.where(mine, values, tf.stop_gradient(values))
