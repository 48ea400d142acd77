"""Multi-gate mixture of experts."""

from __future__ import annotations

import tensorflow as tf


class MMoE(tf.keras.layers.Layer):
    """z_t = h_t( sum_e g_t(x)_e f_e(x) ),  g_t(x) = softmax(W_t x),  f_e = ReLU dense (MMoE, KDD'18; PAPERS 3.6, R9).

    Experts are shared by the tasks, gates and towers are not. A tower is one ReLU layer of `tower_width` (none where it is 0) and a linear
    logit without bias: the listwise softmax is blind to a constant.
    """

    def __init__(self, tasks: int, experts: int, expert_width: int, tower_width: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.tasks, self.experts = tasks, experts
        self.expert_width, self.tower_width = expert_width, tower_width

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
        self.logit_kernel = self.add_weight("logit_kernel", shape=[self.tasks, last], initializer=start)
        super().build(input_shape)

    def gates(self, inputs: tf.Tensor) -> tf.Tensor:
        """Gate weights `[N, T, E]`: each task's sum over the experts is 1."""
        logits = tf.reshape(self._gates(inputs), [-1, self.tasks, self.experts])
        return tf.nn.softmax(logits, axis=-1)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[N, D]` -> logits `[N, T]`."""
        experts = tf.reshape(self._experts(inputs), [-1, self.experts, self.expert_width])
        mixed = tf.einsum("nte,new->ntw", self.gates(inputs), experts)
        if self.tower_width:
            tower = tf.einsum("ntw,twh->nth", mixed, tf.cast(self.tower_kernel, mixed.dtype))
            mixed = tf.nn.relu(tower + tf.cast(self.tower_bias, mixed.dtype))
        return tf.reduce_sum(mixed * tf.cast(self.logit_kernel, mixed.dtype), axis=-1)

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("tasks", "experts", "expert_width", "tower_width")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
