"""Multi-gate mixture of experts."""

from __future__ import annotations

import tensorflow as tf

TASK_AXES = {"_gates/kernel": 1, "tower_kernel": 0, "tower_bias": 0, "logit_kernel": 0, "logit_bias": 0}
"""Variables that have a part for each task, by their path in the layer: the axis on which the parts stand, in the order of the tasks."""


@tf.keras.utils.register_keras_serializable("cvr")
class MMoE(tf.keras.layers.Layer):
    """z_t = h_t( sum_e g_t(x)_e f_e(x) ),  g_t(x) = softmax(W_t x),  f_e = ReLU dense (MMoE, KDD'18; PAPERS 3.6, R9).

    Experts are shared by the tasks, gates and towers are not. A tower is one ReLU layer of `tower_width` (none where it is 0) and a linear
    logit. The logit has no bias, because the listwise softmax is blind to a constant, unless `logit_bias` asks for one: losses that give
    scores a level do.
    """

    def __init__(
        self, tasks: int, experts: int, expert_width: int, tower_width: int = 0, logit_bias: bool = False, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.tasks, self.experts = tasks, experts
        self.expert_width, self.tower_width = expert_width, tower_width
        self.has_logit_bias = logit_bias

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes experts [D, E*W], gates [D, T*E], towers [T, W, H] and logits [T, H]."""
        self._experts = tf.keras.layers.Dense(
            self.experts * self.expert_width, "relu", kernel_initializer="he_normal", name="experts"
        )
        self._gates = tf.keras.layers.Dense(self.tasks * self.experts, use_bias=False, name="gates")
        last = self.tower_width or self.expert_width
        if self.tower_width:
            start = tf.keras.initializers.TruncatedNormal(stddev=(2.0 / self.expert_width) ** 0.5)
            shape = [self.tasks, self.expert_width, self.tower_width]
            self.tower_kernel = self.add_weight("tower_kernel", shape=shape, initializer=start)
            self.tower_bias = self.add_weight("tower_bias", shape=[self.tasks, self.tower_width], initializer="zeros")
        start = tf.keras.initializers.TruncatedNormal(stddev=(1.0 / last) ** 0.5)
        exact = {"experimental_autocast": False}  # float32 under a mixed policy, too: in bfloat16 items of a list would tie
        self.logit_kernel = self.add_weight("logit_kernel", shape=[self.tasks, last], initializer=start, **exact)
        if self.has_logit_bias:
            self.logit_bias = self.add_weight("logit_bias", shape=[self.tasks], initializer="zeros", **exact)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, with_gates: bool = False) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """`[N, D]` -> logits `[N, T]`; with gates: (logits, gate weights `[N, T, E]`)."""
        steps = self.trace(inputs)
        return (steps["output"], steps["gates"]) if with_gates else steps["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `experts` `[N, E, W]`, `gates` `[N, T, E]` (sum 1), `mixed` `[N, T, W]`, `tower` `[N, T, H]`, `output`."""
        experts = tf.reshape(self._experts(inputs), [-1, self.experts, self.expert_width])
        gates = tf.nn.softmax(tf.reshape(self._gates(inputs), [-1, self.tasks, self.experts]), axis=-1)
        mixed = tf.matmul(gates, experts)
        tower = mixed
        if self.tower_width:
            hidden = tf.matmul(tf.transpose(mixed, [1, 0, 2]), tf.cast(self.tower_kernel, mixed.dtype))  # einsum takes longer
            tower = tf.nn.relu(tf.transpose(hidden, [1, 0, 2]) + tf.cast(self.tower_bias, mixed.dtype))
        output = tf.reduce_sum(tf.cast(tower, self.logit_kernel.dtype) * self.logit_kernel, axis=-1)
        if self.has_logit_bias:
            output += self.logit_bias
        return {"experts": experts, "gates": gates, "mixed": mixed, "tower": tower, "output": output}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("tasks", "experts", "expert_width", "tower_width")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "logit_bias": self.has_logit_bias}


def gate_use(gates: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """What gates `[N, T, E]` do on the items of mask `[N]`: float32 `[T, 1 + E]`, first the mean entropy in nats, then each expert's share.

        H_t = mean_n - sum_e g_te log g_te  (log E where all experts weigh the same, 0 where one works alone),   u_te = mean_n g_te
    """
    gates = tf.cast(gates, tf.float32)
    entropy = -tf.reduce_sum(tf.math.xlogy(gates, gates), axis=-1, keepdims=True)
    weights = tf.cast(mask, tf.float32) / tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32)), 1.0)
    return tf.einsum("n,nte->te", weights, tf.concat([entropy, gates], axis=-1))
