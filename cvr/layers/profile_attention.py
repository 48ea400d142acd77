"""Attention of the tokens of histories, and of candidates, to the profile of their list."""

from __future__ import annotations

import tensorflow as tf

from cvr.layers.heads import check_heads, merge_heads, split_heads
from cvr.layers.initial import normal
from cvr.layers.tiles import Tiles, rows_of


@tf.keras.utils.register_keras_serializable("cvr")
class ProfileAttention(tf.keras.layers.Layer):
    """c = W_o concat_h( softmax( (W_q h)_h (W_k p)_h' / sqrt(w) ) (W_v p)_h ), one way: profile tokens p see nothing (PAPERS 3.8).

    w = D / H is the width of a head; SUAN's released code divides by the root of the number of profile tokens instead, by a slip of
    axes. No biases. Profile tokens have no order. Candidates are read in tiles of `tile` (`cvr.layers.tiles`).
    """

    def __init__(self, heads: int, tile: int = 1, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads, self.tile = heads, tile

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes W_q [D, D] (`query`), W_k and W_v side by side [D, 2 D] (`key_value`) and W_o [D, D] (`output`)."""
        width = int(input_shape[-1])
        check_heads(width, self.heads)
        for name, columns in (("query", width), ("key_value", 2 * width), ("output", width)):
            made = tf.keras.layers.Dense(columns, use_bias=False, kernel_initializer=normal(width, 1.0), name=name)
            setattr(self, f"_{name}", made)
        super().build(input_shape)

    def call(
        self, candidates: tf.Tensor, tokens: tf.Tensor, history: tf.Tensor | None = None, list_index: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """candidates `[N, D]`, tokens `[R, P, D]`, history `[R, K, D]`, list_index int32 `[N]` (candidate n is of list n where it is None)
        -> of candidates `[N, D]`, of the history `[R, K, D]` (None without one)."""
        steps = self.trace(candidates, tokens, history, list_index)
        return steps["output"], steps.get("history")

    def trace(
        self, candidates: tf.Tensor, tokens: tf.Tensor, history: tf.Tensor | None = None, list_index: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Each step by name: `output` `[N, D]` and, with a history, `history` `[R, K, D]`."""
        key, value = (split_heads(part, self.heads) for part in tf.split(self._key_value(tokens), 2, axis=-1))
        tiles = Tiles(list_index, rows_of(tokens), self.tile)
        read = self._read(tiles.spread(self._query(candidates)), tiles.of_lists(key), tiles.of_lists(value))
        steps = {"output": self._output(tiles.collect(read))}
        return steps if history is None else {**steps, "history": self._output(self._read(self._query(history), key, value))}

    def _read(self, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        split = split_heads(query, self.heads)
        weights = tf.nn.softmax(tf.matmul(split, key, transpose_b=True) / tf.cast(split.shape[-1], query.dtype) ** 0.5)
        return merge_heads(tf.matmul(weights, value))

    @staticmethod
    def tokens_multiply_adds(tokens: int, width: int) -> int:
        """Keys and values of P profile tokens: 2 P D^2."""
        return 2 * tokens * width**2

    @staticmethod
    def query_multiply_adds(tokens: int, width: int) -> int:
        """Of a token or candidate: 2 D^2 for its query and the output, 2 P D to read."""
        return 2 * width**2 + ProfileAttention.place_multiply_adds(tokens, width)

    @staticmethod
    def place_multiply_adds(tokens: int, width: int) -> int:
        """Of a place of a tile, filled or not: 2 P D."""
        return 2 * tokens * width

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "heads": self.heads, "tile": self.tile}
