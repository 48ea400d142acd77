"""Embedding tables addressed by hashes: rows, padding, vocabularies and bags."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr import transforms
from cvr.layers.hashed_embedding import HashedEmbedding


@pytest.fixture
def layer() -> HashedEmbedding:
    made = HashedEmbedding(buckets=5, dim=2)
    made(tf.constant([4], tf.int64))
    made.table.assign(np.arange(18, dtype=np.float32).reshape(9, 2) + 1)
    return made


def test_rows_by_hand(layer: HashedEmbedding) -> None:
    """Reserved ids keep their row, real ids share 4 + (id - 4) mod 5; padding is the zero vector."""
    ids = tf.constant([[0, 1, 2, 3], [4, 8, 9, 2**62]], tf.int64)
    rows = [[0, 1, 2, 3], [4, 8, 4, 4 + (2**62 - 4) % 5]]
    expected = layer.table.numpy()[rows]
    expected[0, 0] = 0.0
    np.testing.assert_array_equal(layer(ids), expected)


def test_a_vocabulary_gives_listed_values_a_row_each(layer: HashedEmbedding) -> None:
    words = ["red", "green", "blue"]
    ids = transforms.hash_strings(["blue", "red", "pink", "", "green"])
    expected = layer.table.numpy()[[6, 4, transforms.UNKNOWN, transforms.EMPTY, 5]]
    np.testing.assert_array_equal(layer(ids, words), expected)
    np.testing.assert_array_equal(tf.function(lambda x: layer(x, words), autograph=False)(ids), expected)


def test_a_bag_is_the_mean_of_its_own_ids(layer: HashedEmbedding) -> None:
    values, rows = tf.constant([4, 5, 5, 2], tf.int64), tf.constant([0, 0, 0, 2])
    table = layer.table.numpy()
    expected = [(table[4] + 2 * table[5]) / 3, [0.0, 0.0], table[2]]
    np.testing.assert_allclose(layer.mean_of_bags(values, rows, 3), expected, rtol=1e-6)


def test_padding_takes_no_gradient_and_the_rest_is_sparse(layer: HashedEmbedding) -> None:
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(tf.constant([0, 4, 9, 6], tf.int64)))
    gradient = tape.gradient(total, layer.table)
    assert isinstance(gradient, tf.IndexedSlices)
    expected = np.zeros((9, 2))
    expected[4], expected[6] = 2.0, 1.0  # ids 4 and 9 share a row
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), expected)
