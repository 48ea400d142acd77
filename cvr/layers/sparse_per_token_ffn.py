"""Sparse experts in the place of RankMixer's per-token feed-forward network."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.initial import normal

GROWTH = 1.2
"""By how much the penalty's weight changes at most in a step (the factor of ReMoE, ICLR'25)."""
FIRST, LEAST, MOST = 1e-4, 1e-6, 1e2
"""The penalty's weight at the start, and its bounds: without them it would run away while the routers have not followed yet."""
MEMORY, FORESIGHT = 0.95, 4.0
"""The open share is smoothed over 1 / (1 - MEMORY) steps; its trend is looked ahead by FORESIGHT times as many, because closed gates have
no gradient that opens them again: a share that falls must be caught before it is below the budget."""


@tf.keras.utils.register_keras_serializable("cvr")
class SparsePerTokenFFN(tf.keras.layers.Layer):
    """v_t = sum_j G_tj e_tj(s_t),  G_tj = ReLU(h(s_t))_j over E experts of each token's own (RankMixer, CIKM'25; PAPERS 3.3).

    e_tj is a feed-forward network of `width`; with `average` the sum is divided by E. There are two routers h: training uses one on half
    of the rows (`dense_rows`) and the other on the rest, inference the second alone. So both learn from the task, experts learn from rows
    that a sparse router would not send them, and the second router, on which alone the penalty

        L_reg = lambda * mean over rows of sum_tj G_tj
        lambda <- lambda * 1.2^clip((open + 4 (open - share) - active_share) / active_share, -1, 1)

    works, cannot collapse to 0: lambda falls as soon as the part of its gates that is `open`, with its trend from the smoothed `share`,
    goes below `active_share`.

    At inference `dispatch` sends each expert only the rows whose gate is open (shapes depend on the data; XLA needs it off); otherwise,
    and in training, every expert sees every row and closed gates weigh 0.
    """

    def __init__(
        self,
        width: int,
        experts: int,
        active_share: float = 0.25,
        activation: str = "gelu",
        average: bool = False,
        dispatch: bool = True,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.experts, self.active_share = width, experts, active_share
        self.activation, self.average, self.dispatch = activation, average, dispatch

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes experts (W1 [T, D, E f], b1, W2 [T, E f, D], b2 [T, E, D]), both routers [T, D, E], lambda and the open share."""
        count, width = int(input_shape[1]), int(input_shape[2])
        inner = self.experts * self.width
        self.up = self.add_weight("up", shape=[count, width, inner], initializer=normal(width))
        self.up_bias = self.add_weight("up_bias", shape=[count, 1, inner], initializer="zeros")
        self.down = self.add_weight("down", shape=[count, inner, width], initializer=normal(self.width, 1.0))
        self.down_bias = self.add_weight("down_bias", shape=[count, self.experts, width], initializer="zeros")
        for name in ("train", "infer"):
            for part, rows, start in (("kernel", width, normal(width, 1.0)), ("bias", 1, "zeros")):
                weight = self.add_weight(f"{name}_{part}", shape=[count, rows, self.experts], initializer=start)
                setattr(self, f"{name}_{part}", weight)
        self.penalty = self._state("penalty", FIRST)
        self.share = self._state("share", 0.5)
        super().build(input_shape)

    def _state(self, name: str, value: float) -> tf.Variable:
        start = tf.keras.initializers.Constant(value)
        return self.add_weight(name, shape=[], initializer=start, trainable=False, dtype=tf.float32, experimental_autocast=False)

    def call(self, tokens: tf.Tensor, dense_rows: tf.Tensor | None = None) -> tf.Tensor:
        """S `[N, T, D]`, in training also `dense_rows` bool `[N]`, the rows that take the first router -> V `[N, T, D]`."""
        if dense_rows is None and self.dispatch:
            return self._dispatch(tokens)
        steps = self.trace(tokens, dense_rows)
        if dense_rows is not None:
            self._regulate(steps["infer_gates"])
        return steps["output"]

    def trace(self, tokens: tf.Tensor, dense_rows: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Each step by name: `infer_gates`, `train_gates` (with `dense_rows`), `gates` `[T, N, E]`, `active` `[T, N, E f]`, `output`."""
        rows = tf.transpose(tokens, [1, 0, 2])
        steps = {"infer_gates": self._gates(rows, "infer")}
        steps["gates"] = steps["infer_gates"]
        if dense_rows is not None:
            steps["train_gates"] = self._gates(rows, "train")
            steps["gates"] = tf.where(dense_rows[None, :, None], steps["train_gates"], steps["infer_gates"])
        steps["active"] = ACTIVATIONS[self.activation](tf.matmul(rows, self.up) + self.up_bias)
        weighted = steps["active"] * tf.repeat(steps["gates"], self.width, axis=2)
        output = tf.matmul(weighted, self.down) + tf.matmul(steps["gates"], self.down_bias)
        return {**steps, "output": tf.transpose(output, [1, 0, 2])}

    def _gates(self, rows: tf.Tensor, router: str) -> tf.Tensor:
        logits = tf.matmul(rows, getattr(self, f"{router}_kernel")) + getattr(self, f"{router}_bias")
        return tf.nn.relu(logits) / (self.experts if self.average else 1)

    def _regulate(self, gates: tf.Tensor) -> None:
        """Adds L_reg and moves lambda; gates are the second router's `[T, N, E]`."""
        gates = tf.cast(gates, tf.float32)
        self.add_loss(self.penalty * tf.reduce_mean(tf.reduce_sum(gates, axis=[0, 2])))
        open_now = tf.reduce_mean(tf.cast(gates > 0.0, tf.float32))
        share = self.share.assign(MEMORY * self.share + (1.0 - MEMORY) * open_now)
        ahead = open_now + FORESIGHT * (open_now - share)
        change = GROWTH ** tf.clip_by_value((ahead - self.active_share) / self.active_share, -1.0, 1.0)
        self.penalty.assign(tf.clip_by_value(self.penalty * change, LEAST, MOST))

    def _dispatch(self, tokens: tf.Tensor) -> tf.Tensor:
        """The output at inference, each expert on the rows of its open gates alone."""
        inputs = tf.unstack(tokens, axis=1)
        gates = self._gates(tf.transpose(tokens, [1, 0, 2]), "infer")
        outputs = []
        for token, rows in enumerate(inputs):
            total = tf.zeros_like(rows)
            for expert in range(self.experts):
                gate = gates[token, :, expert]
                places = tf.where(gate > 0)
                value = self._expert(tf.gather_nd(rows, places), token, expert)
                total = tf.tensor_scatter_nd_add(total, places, value * tf.gather_nd(gate, places)[:, None])
            outputs.append(total)
        return tf.stack(outputs, axis=1)

    def _expert(self, rows: tf.Tensor, token: int, expert: int) -> tf.Tensor:
        part = slice(expert * self.width, (expert + 1) * self.width)
        hidden = tf.matmul(rows, self.up[token, :, part]) + self.up_bias[token, :, part]
        return tf.matmul(ACTIVATIONS[self.activation](hidden), self.down[token, part]) + self.down_bias[token, expert]

    def multiply_adds(self, tokens: int, width: int) -> int:
        """Of one row at inference: T D E for the router and 2 T D f (+ D) for each expert; with `dispatch` those of the open share."""
        used = self.experts * (self.active_share if self.dispatch else 1.0)
        return round(tokens * (width * self.experts + used * (2 * width * self.width + (0 if self.dispatch else width))))

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("width", "experts", "active_share", "activation", "average", "dispatch")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
