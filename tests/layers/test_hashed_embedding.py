"""Embedding tables addressed by hashes: rows, vocabularies, collisions, and the shrinkage of rare rows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr import transforms
from cvr.layers.hashed_embedding import HashedEmbedding
from tests.layers.case import Arrays, LayerCase
from tests.layers.embeddings import check_embedding, id_inputs, masked

COUNTS = np.array([99, 1, 2, 5, 10, 0, 30, 1, 3])


class TestHashedEmbedding(LayerCase):
    """Reserved ids keep their row, real ids share 4 + (id - 4) mod 5."""

    def make(self) -> HashedEmbedding:
        return HashedEmbedding(buckets=5, dim=2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return id_inputs(source)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        ids = inputs["ids"]
        rows = np.where(ids < 4, ids, 4 + (ids - 4) % 5)
        return {"rows": rows, "output": masked(weights["table"], rows)}


class TestHashedEmbeddingShrunk(TestHashedEmbedding):
    """k = 4; one row was never read, and padding has no count."""

    def make(self) -> HashedEmbedding:
        layer = HashedEmbedding(buckets=5, dim=2, shrinkage=4.0)
        layer.build(tf.TensorShape([None, 4]))
        layer.set_counts(COUNTS)
        return layer

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        steps = super().reference(weights, inputs)
        counts = np.where(np.arange(9) == 0, 0, COUNTS)[steps["rows"]]
        share = counts / (counts + 4.0)
        return {"rows": steps["rows"], "share": share, "output": steps["output"] * share[..., None]}


@pytest.mark.parametrize("case", [TestHashedEmbedding, TestHashedEmbeddingShrunk])
def test_reserved_ids_bags_and_gradients(case: type[TestHashedEmbedding]) -> None:
    layer = case().build()
    if layer.shrinkage:
        layer.set_counts(np.full(9, 7))  # no row without a count, whose vector would not change
    check_embedding(layer)


def test_a_vocabulary_gives_listed_values_a_row_each() -> None:
    layer, words = TestHashedEmbedding().build(), ["red", "green", "blue"]
    ids = transforms.hash_strings(["blue", "red", "pink", "", "green"])
    expected = layer.table.numpy()[[6, 4, transforms.UNKNOWN, transforms.EMPTY, 5]]
    np.testing.assert_array_equal(layer(ids, words), expected)
    np.testing.assert_array_equal(tf.function(lambda x: layer(x, words), autograph=False)(ids), expected)


def test_padding_takes_no_gradient_and_the_rest_is_sparse() -> None:
    layer = TestHashedEmbedding().build()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(tf.constant([0, 4, 9, 6], tf.int64)))
    gradient = tape.gradient(total, layer.table)
    assert isinstance(gradient, tf.IndexedSlices)
    expected = np.zeros((9, 2))
    expected[4], expected[6] = 2.0, 1.0  # ids 4 and 9 share a row
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), expected)


def test_a_modulus_changes_collisions_as_the_birthday_formula_says() -> None:
    """Of n values in M rows a share 1 - (1 - 1/M)^(n-1) has company: .451 and .139, within four standard deviations."""
    ids = transforms.hash_strings([f"item {i}" for i in range(3000)])
    for buckets in (5_000, 20_000):
        _, places, counts = np.unique(transforms.rows_of_ids(ids, buckets), return_inverse=True, return_counts=True)
        expected = 1 - (1 - 1 / buckets) ** 2999
        assert (counts[places] > 1).mean() == pytest.approx(expected, abs=4 * np.sqrt(2 * expected / 3000))


def test_never_read_rows_are_exactly_zero_from_the_start_to_the_end() -> None:
    """The table starts at the prior's mean; a step moves the rows that were read, and what has no count still gives 0."""
    layer = TestHashedEmbeddingShrunk().make()
    assert not layer.table.numpy().any()
    ids = tf.constant([4, 5], tf.int64)  # rows 4, read 10 times, and 5, never
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(ids) * 7.0)
    gradient = tf.convert_to_tensor(tape.gradient(total, layer.table)).numpy()
    np.testing.assert_allclose(gradient[4:6], [[5.0, 5.0], [0.0, 0.0]])  # 7 n / (n + 4)
    layer.table.assign(np.full((9, 2), 3.0))
    np.testing.assert_allclose(layer(ids), [[30 / 14, 30 / 14], [0.0, 0.0]], rtol=1e-6)


def test_counts_are_weights_that_are_not_trained() -> None:
    layer = TestHashedEmbeddingShrunk().make()
    assert [w.name for w in layer.trainable_weights] == ["table:0"] and [w.name for w in layer.non_trainable_weights] == ["counts:0"]
    assert layer.counts.dtype == tf.int64 and layer.counts.numpy().tolist() == [0, *COUNTS[1:]]
    assert not TestHashedEmbedding().build().non_trainable_weights
