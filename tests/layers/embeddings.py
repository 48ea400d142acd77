"""What every way of turning ids into vectors must do, and ids for their cases."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr import transforms
from cvr.layers.id_embedding import IdEmbedding
from tests.layers.case import Arrays

IDS = np.array([[0, 1, 2, 3], [4, 8, 9, 2**62], [4, 4, 0, 2**63 - 1], [77, 12, 13, 14]])
"""Reserved ids, ids that share a row, and the largest ones."""


def id_inputs(source: np.random.Generator) -> Arrays:
    return {"ids": IDS}


def masked(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of a table, zero for padding."""
    return np.where(rows[..., None] == transforms.PAD, 0.0, table[rows])


def check_embedding(layer: IdEmbedding) -> None:
    """Padding is zero, reserved ids differ from each other and keep their vectors when all other rows change; bags are means of their own
    ids; gradients are sparse, reach every table and leave padding out."""
    reserved = tf.constant([transforms.PAD, transforms.UNSEEN, transforms.EMPTY, transforms.UNKNOWN], tf.int64)
    before, real = layer(reserved).numpy(), layer(tf.constant(IDS[1:])).numpy()
    assert not before[0].any() and len({tuple(row) for row in before}) == 4
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(tf.constant(IDS)) ** 2)
    for table, gradient in zip(layer.tables, tape.gradient(total, layer.tables), strict=True):
        assert isinstance(gradient, tf.IndexedSlices), table.name
        dense = tf.convert_to_tensor(gradient).numpy()
        assert not dense[transforms.PAD].any() and dense[transforms.UNSEEN].any() and dense[transforms.FIRST_ID :].any()
    values, rows = tf.constant([4, 5, 5, 2], tf.int64), tf.constant([0, 0, 0, 2])
    four, five, empty = layer(tf.constant([4, 5, 2], tf.int64)).numpy()
    bags = layer.mean_of_bags(values, rows, 3)
    np.testing.assert_allclose(bags, [(four + 2 * five) / 3, np.zeros(layer.dim), empty], rtol=1e-5, atol=1e-7)
    stored = [table.numpy() for table in layer.tables]
    for table in layer.tables:
        table.scatter_nd_add(np.arange(transforms.FIRST_ID, len(table.numpy()))[:, None], tf.ones_like(table)[transforms.FIRST_ID :])
    np.testing.assert_array_equal(layer(reserved), before)
    changed = layer(tf.constant(IDS[1:])).numpy()
    assert (np.abs(changed - real).max(axis=-1) > 0)[IDS[1:] > 3].all()
    for table, value in zip(layer.tables, stored, strict=True):
        table.assign(value)
