"""Several hashes into one table, summed."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr import transforms
from cvr.layers.multi_hash import MultiHash
from tests.layers.case import Arrays, LayerCase
from tests.layers.embeddings import check_embedding, id_inputs, masked
from tests.layers.references import salted_row


class TestMultiHash(LayerCase):
    def make(self) -> MultiHash:
        return MultiHash(buckets=7, dim=2, hashes=3)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return id_inputs(source)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        salts = [int(s) for s in transforms.hash_strings(["/0", "/1", "/2"])]
        rows = np.array([[[salted_row(int(i), 7, salt) for salt in salts] for i in line] for line in inputs["ids"]])
        rows = np.where((rows < 4) & (np.arange(3) > 0), 0, rows)  # a reserved id's row counts once
        return {"rows": rows, "output": masked(weights["table"], rows).sum(axis=2)}


def test_reserved_ids_bags_and_gradients() -> None:
    check_embedding(TestMultiHash().build())


def test_hardly_two_ids_share_all_their_rows() -> None:
    """Of 4,000 ids about 4000^2 / 2 / 1000 = 8,000 pairs share the first of 1,000 rows, and 8 both, Poisson distributed."""
    layer = MultiHash(buckets=1000, dim=1, hashes=2)
    layer(tf.constant([4], tf.int64))
    rows = layer.trace(transforms.hash_strings([f"item {i}" for i in range(4000)]))["rows"].numpy()

    def pairs(found: np.ndarray) -> int:
        counts = np.unique(found, axis=0, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    assert abs(pairs(rows[:, :1]) - 7998) < 400 and abs(pairs(rows[:, 1:]) - 7998) < 400
    assert pairs(rows) < 22
