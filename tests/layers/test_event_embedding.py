"""Event vectors: the sum of item, action and age, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.event_embedding import AGE_BUCKETS, EventEmbedding


@pytest.fixture
def layer() -> EventEmbedding:
    made = EventEmbedding(actions=2, dim=3)
    made(tf.zeros([1, 1, 3]), tf.constant([[4]], tf.int64), tf.constant([[4]], tf.int64), tf.zeros([1, 1]))
    source = np.random.default_rng(0)
    for variable in made.trainable_variables:
        variable.assign(source.normal(0, 1, variable.shape))
    return made


def test_sum_of_item_action_and_age(layer: EventEmbedding) -> None:
    item = tf.constant([[9, 1, 0]], tf.int64)
    vectors = tf.constant(np.random.default_rng(1).normal(0, 1, (1, 3, 3)), tf.float32)
    found = layer(vectors, item, tf.constant([[5, 1, 0]], tf.int64), tf.constant([[6.0, 0.0, 0.0]])).numpy()[0]
    actions, ages = layer.action_table.numpy(), layer.age_table.numpy()
    np.testing.assert_allclose(found[0], vectors[0, 0] + actions[5] + ages[2], rtol=1e-5)  # floor(log2(7)) = 2
    np.testing.assert_allclose(found[1], vectors[0, 1] + actions[1] + ages[0], rtol=1e-5)
    np.testing.assert_array_equal(found[2], [0, 0, 0])  # padding


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (0.9, 0), (1, 1), (2.9, 1), (3, 2), (6.9, 2), (7, 3), (1023, 10), (1e6, 19), (-5, 0), (1e30, 31)],
)
def test_age_buckets(seconds: float, bucket: int, layer: EventEmbedding) -> None:
    one = tf.constant([[4]], tf.int64)
    found = layer(tf.zeros([1, 1, 3]), one, one, tf.constant([[seconds]], tf.float32))[0, 0]
    np.testing.assert_allclose(found, layer.action_table[4] + layer.age_table[bucket], rtol=1e-5)
    assert bucket < AGE_BUCKETS


def test_gradients_stay_dense(layer: EventEmbedding) -> None:
    one = tf.constant([[4]], tf.int64)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(tf.zeros([1, 1, 3]), one, one, tf.ones([1, 1])))
    assert all(isinstance(g, tf.Tensor) for g in tape.gradient(total, layer.trainable_variables))
