"""Event vectors: the sum of item, action and age."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.event_embedding import AGE_BUCKETS, EventEmbedding
from tests.layers.case import Arrays, LayerCase


class TestEventEmbedding(LayerCase):
    """Padding, an unseen history's event, and ages well inside their buckets."""

    def make(self) -> EventEmbedding:
        return EventEmbedding(actions=2, dim=3)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {
            "item_vectors": source.normal(0, 1, (4, 3, 3)),
            "item": np.array([[9, 8, 7], [1, 0, 0], [9, 9, 0], [0, 0, 0]]),
            "action": np.array([[4, 5, 4], [1, 0, 0], [5, 5, 0], [0, 0, 0]]),
            "age": np.array([[0.5, 5.0, 90.0], [0.0, 0.0, 0.0], [2.0, 90_000.0, 0.0], [0.0, 0.0, 0.0]]),
        }

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        bucket = np.floor(np.log2(1 + inputs["age"])).astype(int)
        steps = {"bucket": bucket, "action": weights["action_table"][inputs["action"]], "age": weights["age_table"][bucket]}
        total = inputs["item_vectors"] + steps["action"] + steps["age"]
        return {**steps, "output": np.where(inputs["item"][..., None] == 0, 0.0, total)}


@pytest.fixture(scope="module")
def layer() -> EventEmbedding:
    return TestEventEmbedding().build()


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (0.9, 0), (1, 1), (2.9, 1), (3, 2), (6.9, 2), (7, 3), (1023, 10), (1e6, 19), (-5, 0), (1e30, 31)],
)
def test_age_buckets(seconds: float, bucket: int, layer: EventEmbedding) -> None:
    one = tf.constant([[4]], tf.int64)
    found = layer.trace(tf.zeros([1, 1, 3]), one, one, tf.constant([[seconds]], tf.float32))["bucket"]
    assert int(found[0, 0]) == bucket < AGE_BUCKETS


def test_gradients_stay_dense(layer: EventEmbedding) -> None:
    one = tf.constant([[4]], tf.int64)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(tf.zeros([1, 1, 3]), one, one, tf.ones([1, 1])))
    assert all(isinstance(g, tf.Tensor) for g in tape.gradient(total, layer.trainable_variables))


def test_multiply_adds(layer: EventEmbedding) -> None:
    """One-hot products with 2 + 4 actions and 32 ages of width 3, for each of 5 events."""
    assert layer.list_multiply_adds(5) == 5 * (6 + 32) * 3
