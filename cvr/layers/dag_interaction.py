"""Feature interactions along a directed acyclic graph of tokens."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.initial import normal

INTERACTIONS = ("outer", "inner")


class _ByInDegree(tf.keras.initializers.Initializer):
    """Truncated normal rows whose variance is 1 / (number of edges that end where the row's edge does)."""

    def __init__(self, in_degree: np.ndarray) -> None:
        self._scale = in_degree[:, None] ** -0.5

    def __call__(self, shape: tuple[int, ...], dtype: tf.DType | None = None, **kwargs: object) -> tf.Tensor:
        del kwargs
        drawn = normal(1, 1.0)(shape, dtype)
        return drawn * tf.cast(self._scale, drawn.dtype)


@tf.keras.utils.register_keras_serializable("cvr")
class DagInteraction(tf.keras.layers.Layer):
    """DAGFM's states h^0 .. h^L of T nodes, node s reading all nodes f <= s (KD-DAGFM, WSDM 2023; PAPERS 3.10).

        h^0_s = sum_f C_sf e_f          h^{t+1}_s = h^0_s * a^t_s
        outer: a^t_s = sum_{f <= s} (h^t_f . p^t_fs) q^t_fs          inner: a^t_s = sum_{f <= s} p^t_fs * h^t_f

    C starts as the identity. h^t holds products of t + 1 tokens, f_1 <= ... <= f_{t+1}, with weights of their own: the order of tokens
    matters. Weights are vectors of width d of the T (T + 1) / 2 edges alone. They start so that a^t_s is as large as h^t: p and q of edge
    f -> s with variance 1 / (s + 1), the number of edges into s, but p of `outer` with 1 / d. (The public code draws p and q alike for all
    nodes; its `inner` weights have variance 1, so that its states grow with T.)
    """

    def __init__(self, depth: int, interaction: str = "outer", **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.depth, self.interaction = depth, interaction

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes C [T, T] and per step p, and with `outer` q, [T (T + 1) / 2, d]: edges by their beginning f, then by their end s."""
        self._tokens, self._width = int(input_shape[1]), int(input_shape[2])
        self._edges = np.stack(np.triu_indices(self._tokens), axis=1)
        shape, ends, steps = [len(self._edges), self._width], _ByInDegree(self._edges[:, 1] + 1.0), range(self.depth)
        self.mix = self.add_weight("mix", shape=[self._tokens, self._tokens], initializer="identity")
        outer = self.interaction == "outer"
        self.p = [self.add_weight(f"p_{step}", shape=shape, initializer=normal(self._width, 1.0) if outer else ends) for step in steps]
        self.q = [self.add_weight(f"q_{step}", shape=shape, initializer=ends) for step in steps] if outer else []
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """e `[N, T, d]` -> h^0 .. h^L `[N, L + 1, T, d]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `state_0`, ... `[N, T, d]`, `output` `[N, L + 1, T, d]`."""
        first = tf.matmul(tf.cast(self.mix, inputs.dtype), inputs)
        states = [first]
        for step in range(self.depth):
            states.append(first * self._gathered(states[-1], step))
        return {**{f"state_{step}": state for step, state in enumerate(states)}, "output": tf.stack(states, axis=1)}

    def _gathered(self, state: tf.Tensor, step: int) -> tf.Tensor:
        """a of a step: `[N, T, d]`."""
        p = self._by_nodes(self.p[step])
        if self.interaction == "inner":
            return tf.einsum("nfd,fsd->nsd", state, p)
        return tf.einsum("nfs,fsd->nsd", tf.einsum("nfd,fsd->nfs", state, p), self._by_nodes(self.q[step]))

    def _by_nodes(self, weights: tf.Tensor) -> tf.Tensor:
        """Weights of the edges, 0 where there is none: `[T, T, d]`."""
        return tf.scatter_nd(tf.constant(self._edges), tf.convert_to_tensor(weights), [self._tokens, self._tokens, self._width])

    def multiply_adds(self, tokens: int, width: int) -> int:
        """Of one row of T tokens of width d: T^2 d for C, and in each step T^2 d, twice that with `outer`. Missing edges are zeros
        of a full product, so they count."""
        return tokens**2 * width * (1 + self.depth * (2 if self.interaction == "outer" else 1))

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "depth": self.depth, "interaction": self.interaction}
