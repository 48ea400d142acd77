"""A behaviour sequence read by a recurrent network."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class HistoryGRU(tf.keras.layers.Layer):
    """h = s_0,  s_k = GRU(s_{k+1}, e_k) over real events k, from the oldest to the most recent one, k = 0 (Cho et al. 2014; PAPERS R6).

        z = sigmoid(e W_z + s U_z + b_z + c_z)       r = sigmoid(e W_r + s U_r + b_r + c_r)
        n = tanh(e W_n + b_n + r * (s U_n + c_n))    s' = z * s + (1 - z) * n

    Keras' GRUCell, in the form that resets after the product. The state starts at 0 and is as wide as an event; padding leaves it as it
    is. An empty history has a learned vector. An unseen one is one event of the reserved item UNSEEN, so it differs from an empty one.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the cell (kernels [d, 3 d], biases [2, 3 d]) and the vector of the empty history [d]."""
        self.width = int(input_shape[-1])
        cell = tf.keras.layers.GRUCell(self.width, dtype=self.dtype_policy, name="cell")
        self._read = tf.keras.layers.RNN(cell, return_sequences=True, go_backwards=True, name="read")
        self.empty = self.add_weight("empty", shape=[self.width], initializer="uniform")
        super().build(input_shape)

    def call(self, events: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """events `[B, K, d]`, most recent first, real bool `[B, K]` -> `[B, d]`."""
        return self.trace(events, real)["output"]

    def trace(self, events: tf.Tensor, real: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `states` s `[B, K, d]`, in the order of the events, 0 at padding, and `output` `[B, d]`."""
        states = tf.reverse(self._read(events, mask=real), [1])
        states *= tf.cast(real, states.dtype)[..., None]
        output = tf.where(tf.reduce_any(real, axis=1, keepdims=True), states[:, 0], tf.cast(self.empty, states.dtype))
        return {"states": states, "output": output}

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events: 6 K d^2."""
        return 6 * length * self.width**2

    def item_multiply_adds(self, length: int) -> int:
        """Of an item: none, the vector is the list's."""
        return 0
