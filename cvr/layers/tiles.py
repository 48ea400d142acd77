"""The items of a flat batch, cut so that a batched product can bring them together with what belongs to their lists."""

from __future__ import annotations

import tensorflow as tf


def rows_of(values: tf.Tensor) -> int | tf.Tensor:
    """Number of rows: a number where the graph knows it, else a scalar tensor."""
    return values.shape[0] if values.shape[0] is not None else tf.shape(values)[0]


class Tiles:
    """M tiles of T places each; the items of a tile are of one list, and the places that a list does not fill are empty.

        M = floor( (N + B (T - 1)) / T )

    is enough for any N items in B lists, so that shapes are static where N and B are. What belongs to a list is then needed M times and not
    N times: keys of a history are `[M, K, d]`, and T items together are multiplied with them. A list costs up to T - 1 empty places. One
    place per tile is a copy per item. Without a `list_index` item n is alone in list n, and nothing is moved.
    """

    def __init__(self, list_index: tf.Tensor | None, lists: int | tf.Tensor, size: int) -> None:
        """list_index int32 `[N]`, in any order, of `lists` lists."""
        self._alone = list_index is None
        if list_index is None:
            return
        items = rows_of(list_index)
        self._size, self._count = size, (items + lists * (size - 1)) // size
        order = tf.argsort(list_index, stable=True)
        owner = tf.gather(list_index, order)
        sizes = tf.math.unsorted_segment_sum(tf.ones_like(list_index), list_index, lists)
        place = tf.range(items) - tf.gather(tf.cumsum(sizes, exclusive=True), owner)
        first = tf.gather(tf.cumsum(-(-sizes // size), exclusive=True), owner) * size
        self._slot = tf.gather(first + place, tf.argsort(order))
        owners = tf.math.unsorted_segment_max(list_index, self._slot // size, self._count)
        self._list = tf.maximum(owners, 0)  # an empty tile takes any list's

    def spread(self, values: tf.Tensor) -> tf.Tensor:
        """Of items `[N, ...]` -> `[M, T, ...]`, 0 at empty places."""
        if self._alone:
            return values[:, None]
        rest = values.shape[1:]
        flat = tf.scatter_nd(self._slot[:, None], values, [self._count * self._size, *rest])
        return tf.reshape(flat, [self._count, self._size, *rest])

    def collect(self, values: tf.Tensor) -> tf.Tensor:
        """`[M, T, ...]` -> of items `[N, ...]`."""
        if self._alone:
            return values[:, 0]
        return tf.gather(tf.reshape(values, [self._count * self._size, *values.shape[2:]]), self._slot)

    def of_lists(self, values: tf.Tensor) -> tf.Tensor:
        """Of lists `[B, ...]` -> of the tiles' lists `[M, ...]`."""
        return values if self._alone else tf.gather(values, self._list)
