"""Which older tokens a token of a sequence sees, cut into parts that are dense products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf


class Part:
    """G products of Lq queries with Lk keys each: places in the sequence of both, and which of the pairs count."""

    def __init__(self, query: np.ndarray, key: np.ndarray, length: int, sees: Callable[[np.ndarray], np.ndarray]) -> None:
        """query `[G, Lq]` and key `[G, Lk]`: places, each query's exactly once; those from `length` on are empty. `sees` a distance."""
        self._length, self._query, self._key = length, query, key
        self.distance = key[:, None, :] - query[:, :, None]
        """int `[G, Lq, Lk]`: how many places older the key is; below 0 where it is newer."""
        self.allowed = sees(self.distance) & (self.distance >= 0) & (key < length)[:, None, :]
        """bool `[G, Lq, Lk]`: the pairs that count."""
        self._whole = query.shape == key.shape == (1, length)

    @property
    def pairs(self) -> int:
        """Pairs that are computed, G Lq Lk."""
        return self.distance.size

    def queries(self, values: tf.Tensor) -> tf.Tensor:
        """`[R, H, K, ...]` -> `[R, H, G, Lq, ...]`, 0 at empty places."""
        return self._at(values, self._query)

    def keys(self, values: tf.Tensor) -> tf.Tensor:
        """`[R, H, K, ...]` -> `[R, H, G, Lk, ...]`, 0 at empty places."""
        return self._at(values, self._key)

    def back(self, values: tf.Tensor) -> tf.Tensor:
        """Of queries `[R, H, G, Lq, ...]` -> `[R, H, K, ...]`."""
        if self._whole:
            return tf.squeeze(values, 2)
        heads, groups, queries, *rest = values.shape[1:]
        where = np.argsort(self._query.reshape(-1))[: self._length]
        return tf.gather(tf.reshape(values, [-1, heads, groups * queries, *rest]), where, axis=2)

    def _at(self, values: tf.Tensor, places: np.ndarray) -> tf.Tensor:
        if self._whole:
            return values[:, :, None]
        empty = [[0, 0], [0, 0], [0, int(places.max()) + 1 - self._length], *[[0, 0]] * (values.shape.rank - 3)]
        return tf.gather(tf.pad(values, empty), places, axis=2)


def sparse_pattern(length: int, window: int = 0, dilation: int = 0) -> tuple[Part, ...]:
    """The parts of a causal self-attention over `length` tokens, the most recent first; a pair of tokens counts in one part at most.

    A token sees itself and the older ones at distances below `window` k (0: all of them), and those at distances k, k + 1, ... that are
    multiples of `dilation` r (0: none). The window is cut into blocks of k queries, which see 2 k - 1 keys, the dilated places into the r
    classes of places that leave the same rest, in each of which everything sees everything: about K (2 k + K / r) pairs instead of K^2.
    """
    near = window if 0 < window < length else length
    blocks = -(-length // near)
    starts = near * np.arange(blocks)[:, None]
    reach = near if blocks == 1 else 2 * near - 1
    parts = [Part(starts + np.arange(near), starts + np.arange(reach), length, lambda distance: distance < near)]
    if dilation and (length - 1) // dilation * dilation >= near:
        classes = np.arange(dilation)[:, None] + dilation * np.arange(-(-length // dilation))
        parts.append(Part(classes, classes, length, lambda distance: distance >= near))
    return tuple(parts)
