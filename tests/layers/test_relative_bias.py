"""The bias of attention against its equation, and what clipping does."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.relative_bias import RelativeBias
from tests.layers.case import Arrays, LayerCase

K, T = 4, 20


class TestRelativeBias(LayerCase):
    """Ages from the same second to longer than the last bucket; distances below 0 and above K."""

    def make(self) -> RelativeBias:
        return RelativeBias(K, T)

    def inputs(self, source: np.random.Generator) -> Arrays:
        # of differences whose bucket a rounded age does not change
        queries = np.array([[0.0, 30.0], [0.0, 0.0], [7000.0, 30.0], [400.0, 400.0]])
        keys = np.array([[0.0, 30.0, 7000.0], [400.0, 0.5, 1e7], [0.0, 7000.0, 30.0], [30.0, 0.0, 400.0]])
        return {"query_age": queries, "key_age": keys, "distance": source.integers(-2, K + 3, (4, 2, 3))}

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        apart = np.abs(inputs["query_age"][:, :, None] - inputs["key_age"][:, None, :])
        bucket = np.array([min(int(np.floor(np.log(max(x, 1.0)) / 0.301)), T) for x in apart.reshape(-1)]).reshape(apart.shape)
        places = np.clip(inputs["distance"], 0, K)
        return {"bucket": bucket.astype(np.int32), "output": weights["place_table"][places, 0] + weights["time_table"][bucket, 0]}


def test_gradients_are_dense() -> None:
    """One number per row of a table; every pair adds to its rows."""
    layer, inputs = TestRelativeBias().build(), TestRelativeBias().stored("inputs")
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(*(tf.constant(x, tf.float32 if x.dtype.kind == "f" else tf.int32) for x in inputs.values())))
    for gradient in tape.gradient(total, [layer.place_table, layer.time_table]):
        assert isinstance(gradient, tf.Tensor) and float(tf.reduce_sum(gradient)) == 4 * 2 * 3
