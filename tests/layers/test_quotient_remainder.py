"""Quotient and remainder: two rows per id, whose product it is."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.quotient_remainder import QuotientRemainder
from tests.layers.case import Arrays, LayerCase
from tests.layers.embeddings import check_embedding, id_inputs, masked


class TestQuotientRemainder(LayerCase):
    """Ten codes, three of which share a row of Q: codes 0 .. 9 have quotients 0 .. 3."""

    def make(self) -> QuotientRemainder:
        return QuotientRemainder(buckets=10, dim=3, collisions=3)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return id_inputs(source)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        ids = inputs["ids"]
        codes = (ids - 4) % 10
        steps = {
            "quotient_rows": np.where(ids < 4, ids, 4 + codes // 3),
            "remainder_rows": np.where(ids < 4, ids, 4 + codes % 3),
        }
        steps["quotient"] = masked(weights["quotient"], steps["quotient_rows"])
        steps["remainder"] = masked(weights["remainder"], steps["remainder_rows"])
        return {**steps, "output": steps["quotient"] * steps["remainder"]}


def test_reserved_ids_bags_and_gradients() -> None:
    check_embedding(TestQuotientRemainder().build())


def test_every_code_has_a_pair_of_rows_of_its_own() -> None:
    """23 codes from ceil(23 / 4) + 4 rows, and 4 reserved ones in each table."""
    layer = QuotientRemainder(buckets=23, dim=2, collisions=4)
    layer(tf.constant([4], tf.int64))
    steps = layer.trace(tf.range(4, 4 + 46, dtype=tf.int64))
    pairs = list(zip(steps["quotient_rows"].numpy(), steps["remainder_rows"].numpy(), strict=True))
    assert len(set(pairs)) == 23 and pairs[:23] == pairs[23:]
    assert [table.shape[0] for table in layer.tables] == [6 + 4, 4 + 4]
    assert max(q for q, _ in pairs) == 9 and max(r for _, r in pairs) == 7


def test_at_the_start_no_product_is_zero_and_codes_of_a_quotient_differ() -> None:
    """A product of tables near zero would hardly learn."""
    tf.random.set_seed(1)
    layer = QuotientRemainder(buckets=400, dim=4, collisions=20)
    start = layer(tf.range(4, 404, dtype=tf.int64)).numpy()
    assert 0.02 < start.std() < 0.04  # a plain table's uniform ±0.05 has 0.029
    assert len(np.unique(start, axis=0)) == 400
