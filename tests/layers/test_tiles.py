"""Tiles: every item has a place of its own in a tile of its list, whatever the lists' sizes and order."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.tiles import Tiles


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("lists", [[3, 1, 0, 7, 2], [0, 0, 9], [1], [2, 2, 2]])
def test_items_meet_their_lists(size: int, lists: list[int]) -> None:
    source = np.random.default_rng(size)
    index = source.permutation(np.repeat(np.arange(len(lists)), lists)).astype(np.int32)
    tiles = Tiles(tf.constant(index), len(lists), size)
    items = np.arange(1.0, len(index) + 1)[:, None].astype(np.float32)
    spread = tiles.spread(tf.constant(items)).numpy()
    assert spread.shape[1:] == (size, 1) and spread.shape[0] == (len(index) + len(lists) * (size - 1)) // size
    assert sorted(spread[spread > 0]) == sorted(items[:, 0])  # each once, the rest 0
    owners = tiles.of_lists(tf.range(len(lists))).numpy()
    for item, owner in zip(items[:, 0], index, strict=True):
        ((tile, _, _),) = np.argwhere(spread == item)
        assert owners[tile] == owner
    np.testing.assert_array_equal(tiles.collect(tf.constant(spread)), items)


def test_one_item_per_list_is_moved_nowhere() -> None:
    tiles, values = Tiles(None, 3, 8), tf.reshape(tf.range(6.0), [3, 2])
    np.testing.assert_array_equal(tiles.collect(tiles.spread(values)), values)
    assert tiles.spread(values).shape == (3, 1, 2) and tiles.of_lists(values) is values


def test_shapes_are_static_where_they_can_be_and_none_is_not_needed() -> None:
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def unknown(index: tf.Tensor) -> tf.Tensor:
        tiles = Tiles(index, tf.reduce_max(index) + 1, 2)
        return tiles.collect(tiles.spread(tf.cast(index, tf.float32)[:, None]))

    @tf.function(input_signature=[tf.TensorSpec([5], tf.int32)], jit_compile=True)
    def known(index: tf.Tensor) -> tf.Tensor:
        tiles = Tiles(index, 3, 2)
        spread = tiles.spread(tf.cast(index, tf.float32)[:, None])
        shapes.append((spread.shape, tiles.of_lists(tf.zeros([3, 4])).shape))
        return tiles.collect(spread)

    index = tf.constant([0, 0, 1, 2, 2])
    for function in (unknown, known):
        np.testing.assert_array_equal(function(index)[:, 0], index)
    assert shapes[0] == ((4, 2, 1), (4, 4))  # (5 + 3 x 1) / 2 tiles
