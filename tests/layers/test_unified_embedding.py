"""One table for many features, against its equations and TFRS's layer."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_recommenders.layers.feature_multiplexing import unified_embedding as tfrs

from cvr import transforms
from cvr.layers.unified_embedding import UnifiedEmbedding
from tests.layers.case import Arrays, LayerCase
from tests.layers.embeddings import IDS, check_embedding, id_inputs, masked
from tests.layers.references import salted_row


class TestUnifiedEmbedding(LayerCase):
    def make(self) -> UnifiedEmbedding:
        return UnifiedEmbedding(buckets=7, dim=6, hashes=2)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return id_inputs(source)

    def arguments(self, tensors: list) -> tuple:
        return (tensors[0], "genre")

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        salts = [int(s) for s in transforms.hash_strings(["genre/0", "genre/1"])]
        rows = np.array([[[salted_row(int(i), 7, salt) for salt in salts] for i in line] for line in inputs["ids"]])
        parts = masked(weights["table"], rows)
        return {"rows": rows, "parts": parts, "output": parts.reshape(*rows.shape[:2], 6)}


def test_reserved_ids_bags_and_gradients() -> None:
    check_embedding(TestUnifiedEmbedding().build())


def test_equals_tfrs_with_our_hashes() -> None:
    """Their layer, its table and its hash layers replaced by ours, for two features; padding apart, which it does not know."""
    layer = TestUnifiedEmbedding().build()
    config = tfrs.UnifiedEmbeddingConfig(buckets_per_table=11, dim_per_table=3, num_tables=1, name="u")
    config.add_feature("genre", 2)
    config.add_feature("title", 2)
    peer = tfrs.UnifiedEmbedding(config, tf.tpu.experimental.embedding.SGD(0.1))
    ids = tf.constant(IDS.reshape(-1))
    peer({"genre": ids, "title": ids})
    for table in peer._embedding_layer.embedding_tables.values():
        table.assign(layer.table)
    for name, hashes in peer._hashing_layers.items():
        for place, part in enumerate(sorted(hashes)):
            hashes[part] = lambda x, name=name, place=place: transforms.salted_rows(x, 7, name, 2)[..., place]
    found = dict(zip(("genre", "title"), peer({"genre": ids, "title": ids}), strict=True))
    for name, vectors in found.items():
        real = IDS.reshape(-1) != transforms.PAD
        np.testing.assert_array_equal(layer(ids, name)[real], vectors[real])
    assert np.abs(found["genre"] - found["title"]).max() > 0.1


def test_features_share_rows_but_not_vectors() -> None:
    """Where two values collide in one feature, they hardly do in another; reserved ids mean the same in all."""
    layer = TestUnifiedEmbedding().build()
    one, other = layer(tf.constant(IDS), "genre").numpy(), layer(tf.constant(IDS), "title").numpy()
    np.testing.assert_array_equal(one[0], other[0])
    assert (np.abs(one - other).max(axis=-1) > 0)[IDS > 3].mean() > 0.8


def test_width_that_parts_do_not_divide() -> None:
    with pytest.raises(ValueError, match="4 parts do not make a vector of width 6"):
        UnifiedEmbedding(7, 6, 4)
