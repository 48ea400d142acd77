"""Self-attention in which no token sees a later one, and a token read after all of them."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvr.layers.building import build_all
from cvr.layers.heads import masked_softmax, merge_heads, split_heads
from cvr.layers.initial import normal
from cvr.layers.rotary_positions import RotaryPositions


class Memory(NamedTuple):
    """Keys, turned by their places, and values of tokens: `[N, H, L, c]` each."""

    keys: tf.Tensor
    values: tf.Tensor


@tf.keras.utils.register_keras_serializable("cvr")
class CausalAttention(tf.keras.layers.Layer):
    """out_p = concat_h( sum_{r <= p} softmax_r( (R_p q_p) . (R_r k_r) / sqrt(c) ) v_r ) W_o, R the rotations of `RotaryPositions`.

    H heads of width c = d / H, no biases (PAPERS 3.12). Hidden tokens (padding) get no weight; a token that sees none reads zeros.
    `remember` and `read` are the same for tokens that come after all others, one by one: each sees those and itself, and no other such.
    """

    def __init__(self, heads: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self._rotate = RotaryPositions(name="rotate")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W_q, W_k, W_v and W_o `[d, d]`. Raises ValueError for heads that do not share d evenly."""
        width = int(input_shape[-1])
        if width % (2 * self.heads):
            raise ValueError(f"{self.heads} heads of width {width} / {self.heads}: the width must be a multiple of {2 * self.heads}")
        self.width = width
        layers = {
            name: tf.keras.layers.Dense(width, use_bias=False, kernel_initializer=normal(width, 1.0), name=name)
            for name in ("query", "key", "value", "output")
        }
        self._query, self._key, self._value, self._output = layers.values()
        build_all(layers.values(), input_shape)
        super().build(input_shape)

    def call(self, tokens: tf.Tensor, visible: tf.Tensor, memory: Memory | None = None) -> tf.Tensor:
        """X `[N, L, d]` in order of time, visible bool `[N, L]` -> `[N, L, d]`; `memory`, where it is known, is that of X."""
        return self.trace(tokens, visible, memory)["output"]

    def trace(self, tokens: tf.Tensor, visible: tf.Tensor, memory: Memory | None = None) -> dict[str, tf.Tensor]:
        """Each step by name: turned `query`, `key`, and `value`, `read` `[N, H, L, c]`, `logits`, `weights` `[N, H, L, L]`, `output`."""
        length = tokens.shape[1]
        memory = memory or self.remember(tokens)
        query = self._rotate(self._cut(self._query(tokens)))
        logits = tf.matmul(query, memory.keys, transpose_b=True) / (self.width // self.heads) ** 0.5
        past = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
        weights = masked_softmax(logits, past & visible[:, None, None, :])
        read = tf.matmul(weights, memory.values)
        steps = {"query": query, "key": memory.keys, "value": memory.values, "logits": logits, "weights": weights, "read": read}
        return {**steps, "output": self._output(merge_heads(read))}

    def remember(self, tokens: tf.Tensor) -> Memory:
        """What later tokens read of X `[N, L, d]`. Needs a built layer, as `read` does."""
        return Memory(self._rotate(self._cut(self._key(tokens))), self._cut(self._value(tokens)))

    def read(self, tokens: tf.Tensor, memory: Memory, visible: tf.Tensor) -> tf.Tensor:
        """X `[M, d]`, each at place L after a memory of L tokens `[M, H, L, c]` of which some are visible `[M, L]` -> `[M, d]`."""
        rows, length = tokens[:, None, :], int(memory.keys.shape[2])
        query, own = (self._rotate(self._cut(layer(rows)), first=length) for layer in (self._query, self._key))
        past = tf.matmul(query, memory.keys, transpose_b=True)
        itself = tf.reduce_sum(query * own, axis=-1, keepdims=True)
        logits = tf.concat([past, itself], axis=-1) / (self.width // self.heads) ** 0.5
        seen = tf.pad(visible, [[0, 0], [0, 1]], constant_values=True)
        weights = masked_softmax(logits, seen[:, None, None, :])
        found = tf.matmul(weights[..., :-1], memory.values) + weights[..., -1:] * self._cut(self._value(rows))
        return self._output(tf.reshape(found, [-1, self.width]))

    def _cut(self, values: tf.Tensor) -> tf.Tensor:
        """`[N, L, d]` -> `[N, H, L, c]`."""
        return split_heads(values, self.heads)

    def multiply_adds(self, length: int, width: int) -> int:
        """Of one row of L tokens: 4 L d^2 + 2 L^2 d; what the mask hides is multiplied, too."""
        return 4 * length * width**2 + 2 * length**2 * width

    def remember_multiply_adds(self, length: int) -> int:
        """Of one row of L tokens: 2 L d^2. Needs a built layer, as the next one does."""
        return 2 * length * self.width**2

    def read_multiply_adds(self, length: int) -> int:
        """Of a token after L others: 4 d^2 + 2 L d."""
        return 4 * self.width**2 + 2 * length * self.width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads}
