"""Causal self-attention of behaviour sequences, and of the candidates that share them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvr.layers.heads import check_heads, merge_heads, split_heads
from cvr.layers.initial import normal
from cvr.layers.sparse_pattern import sparse_pattern
from cvr.layers.tiles import Tiles, rows_of

Steps = dict[str, tf.Tensor]


@tf.keras.utils.register_keras_serializable("cvr")
class CandidateAttention(tf.keras.layers.Layer):
    """One softmax attention over a list's history x_0 .. x_{K-1}, the most recent first, and a candidate x_n, which is its newest token.

        a_kj = (W_q x_k)_h . (W_k x_j)_h / sqrt(w) + b_kj            j as old as k or older, where b_kj allows it
        a_nj = (W_q x_n)_h . (W_k x_j)_h / sqrt(w) + b_nj + m_nj e_h    all j, and the candidate itself
        out = W_o concat_h sum_j softmax(a)_j ( (W_v x_j)_h + m_nj u_h )

    A history never sees a candidate and no candidate another one, so the keys and values of a history are made once for all candidates of
    its list (SUAN's UAB and LightSUAN's parallel inference, PAPERS 3.8). No biases; w = D / H. m_nj = 1 where event j is on item n: e_h
    and u_h are ours, because ids that share a vector would otherwise lose it. Candidates are read in tiles of `tile` (`cvr.layers.tiles`).
    """

    def __init__(self, heads: int, window: int = 0, dilation: int = 0, tile: int = 1, **kwargs: object) -> None:
        """`window` and `dilation` as in `cvr.layers.sparse_pattern`; of the history only, a candidate sees all of it."""
        super().__init__(**kwargs)
        self.heads, self.window, self.dilation, self.tile = heads, window, dilation, tile

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W_q [D, D] (`query`), W_k and W_v side by side [D, 2 D] (`key_value`), W_o [D, D] (`output`), e [H] and u [D]."""
        width = int(input_shape[-1])
        check_heads(width, self.heads)
        for name, columns in (("query", width), ("key_value", 2 * width), ("output", width)):
            made = tf.keras.layers.Dense(columns, use_bias=False, kernel_initializer=normal(width, 1.0), name=name)
            setattr(self, f"_{name}", made)
        self.match_bias = self.add_weight("match_bias", shape=[self.heads], initializer="ones")
        self.match_value = self.add_weight("match_value", shape=[width], initializer="uniform")
        super().build(input_shape)

    def call(
        self,
        candidates: tf.Tensor,
        history: tf.Tensor,
        candidate_bias: tf.Tensor,
        match: tf.Tensor,
        bias: Sequence[tf.Tensor] = (),
        list_index: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """candidates `[N, D]`, history `[R, K, D]` -> of candidates `[N, D]`, of the history `[R, K, D]`.

        candidate_bias `[R, K + 1]` is b_n of a list, the last of the candidate itself; match bool `[N, K]`; bias b_k `[R, 1, G, Lq, Lk]`
        for each part of the pattern, without which the history itself is not attended to (None); hidden pairs have -1e9. list_index int32
        `[N]`; candidate n is of list n where it is None.
        """
        steps = self.trace(candidates, history, candidate_bias, match, bias, list_index)
        return steps["output"], steps.get("history")

    def trace(
        self,
        candidates: tf.Tensor,
        history: tf.Tensor,
        candidate_bias: tf.Tensor,
        match: tf.Tensor,
        bias: Sequence[tf.Tensor] = (),
        list_index: tf.Tensor | None = None,
    ) -> Steps:
        """Each step by name: `weights` of candidates `[N, H (K + 1)]` head by head, `output`, and with `bias` the `history`."""
        key, value = (split_heads(part, self.heads) for part in tf.split(self._key_value(history), 2, axis=-1))
        tiles = Tiles(list_index, rows_of(history), self.tile)
        own = tf.concat([self._query(candidates), self._key_value(candidates)], axis=-1)
        query, own_key, own_value = (split_heads(part, self.heads) for part in tf.split(tiles.spread(own), 3, axis=-1))
        key_n, value_n = tiles.of_lists(key), tiles.of_lists(value)
        matched = tiles.spread(tf.cast(match, query.dtype))[:, None]
        scale = tf.cast(query.shape[-1], query.dtype) ** 0.5
        shown = tf.matmul(query, key_n, transpose_b=True) / scale + matched * self.match_bias[:, None, None]
        itself = tf.reduce_sum(query * own_key, axis=-1, keepdims=True) / scale
        weights = tf.nn.softmax(tf.concat([shown, itself], axis=-1) + tiles.of_lists(candidate_bias)[:, None, None])
        seen = weights[..., :-1]
        extra = tf.reshape(self.match_value, [self.heads, 1, -1]) * tf.reduce_sum(seen * matched, axis=-1, keepdims=True)
        read = tf.matmul(seen, value_n) + weights[..., -1:] * own_value + extra
        steps = {"weights": tiles.collect(merge_heads(weights)), "output": self._output(tiles.collect(merge_heads(read)))}
        return {**steps, "history": self._attend(history, key, value, bias)} if bias else steps

    def _attend(self, history: tf.Tensor, key: tf.Tensor, value: tf.Tensor, bias: Sequence[tf.Tensor]) -> tf.Tensor:
        """Each part by itself; together by the sums of their exponentials, which is one softmax over all of them."""
        query = split_heads(self._query(history), self.heads)
        scale = tf.cast(query.shape[-1], query.dtype) ** 0.5
        reads, sums = [], []
        for part, own in zip(sparse_pattern(history.shape[1], self.window, self.dilation), bias, strict=True):
            logits = tf.matmul(part.queries(query), part.keys(key), transpose_b=True) / scale + own
            reads.append(part.back(tf.matmul(tf.nn.softmax(logits), part.keys(value))))
            if len(bias) > 1:
                sums.append(part.back(tf.reduce_logsumexp(tf.cast(logits, self.variable_dtype), axis=-1)))
        if len(bias) > 1:
            shares = tf.unstack(tf.cast(tf.nn.softmax(tf.stack(sums, axis=-1)), query.dtype), axis=-1)
            reads = [read * share[..., None] for read, share in zip(reads, shares, strict=True)]
        return self._output(merge_heads(tf.add_n(reads)))

    def history_multiply_adds(self, length: int, width: int) -> int:
        """Of a history's own attention: 2 K D^2 for queries and output, 2 D for each pair that is computed."""
        pairs = sum(part.pairs for part in sparse_pattern(length, self.window, self.dilation))
        return 2 * length * width**2 + 2 * pairs * width

    @staticmethod
    def keys_multiply_adds(length: int, width: int) -> int:
        """Keys and values of a history: 2 K D^2."""
        return 2 * length * width**2

    @staticmethod
    def candidate_multiply_adds(length: int, width: int) -> int:
        """Of a candidate: 4 D^2, 2 K D to read; its own key and value are no matrix product."""
        return 4 * width**2 + CandidateAttention.place_multiply_adds(length, width)

    @staticmethod
    def place_multiply_adds(length: int, width: int) -> int:
        """Of a place of a tile, filled or not: 2 K D."""
        return 2 * length * width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        names = ("heads", "window", "dilation", "tile")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
