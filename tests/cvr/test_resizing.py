"""Rows of embedding tables that outlive a change of their size, held against the look-ups themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.extraction import make_embedding
from cvr.resizing import carry_over, resize_by_hash, resize_by_key
from cvr.schema import Embedding
from tests.support import tiny_spec

IDS = np.array([1, 2, 3, 4, 5, 17, 123456789, 2**62 + 12345, 987654321987])


def _table(rows: int) -> np.ndarray:
    return np.arange(2.0 * rows).reshape(rows, 2).astype(np.float32)


def test_a_table_that_grows_by_hand() -> None:
    """2 buckets become 4: buckets 0 and 2 take old bucket 0, 1 and 3 old bucket 1; the four reserved rows stay."""
    carried = resize_by_hash(_table(6), np.zeros([8, 2], np.float32)).rows
    assert carried is not None and carried[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 8, 10]


def test_a_table_that_shrinks_by_hand() -> None:
    """4 buckets become 2: new bucket 0 is the mean of old buckets 0 and 2 (rows 4 and 6), bucket 1 that of 1 and 3."""
    carried = resize_by_hash(_table(8), np.zeros([6, 2], np.float32)).rows
    assert carried is not None and carried[:, 0].tolist() == [0, 2, 4, 6, (8 + 12) / 2, (10 + 14) / 2]


def test_other_sizes_carry_nothing() -> None:
    carried = resize_by_hash(_table(10), np.zeros([8, 2], np.float32))
    assert carried.rows is None and "6 buckets to 4: neither is a multiple" in carried.reason


@pytest.mark.parametrize("method", ["hash", "multi_hash", "unified"])
def test_every_id_keeps_its_vector_in_a_table_that_grows(method: str) -> None:
    old, new = (make_embedding(Embedding(buckets=buckets, dim=4, method=method), f"t{buckets}") for buckets in (5, 15))  # type: ignore[arg-type]
    ids = tf.constant(IDS)
    before = old(ids).numpy()
    new(ids)
    new.table.assign(resize_by_hash(old.table.numpy(), new.table.numpy()).rows)
    np.testing.assert_array_equal(new(ids).numpy(), before)


def test_keys_keep_their_row_in_another_order() -> None:
    rows = resize_by_key(_table(6), np.full([7, 2], -1.0, np.float32), ["phone", "tablet"], ["tv", "tablet", "phone"])
    assert rows.rows is not None and rows.rows[:, 0].tolist() == [0, 2, 4, 6, -1, 10, 8]
    assert rows.reason == "2 of 3 values keep their row"


SPEC = """
dataset: tiny
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
tables: {ids: {buckets: 6, dim: 2}}
features:
  device: {kind: categorical, level: context, from: impression.device, vocabulary: [phone, tablet], embedding: {buckets: 2, dim: 2}}
  item: {kind: categorical, level: item, from: impression.item_id, table: ids}
  seen: {kind: categorical, level: context, from: impression.seen, table: ids}
  brand: {kind: categorical, level: item, from: item.brand, embedding: {buckets: 6, dim: 2, method: quotient_remainder}}
  recent: {kind: sequence, level: context, history: {events: [click], length: 4}, table: ids}
  offset: {kind: categorical, level: item, derive: {op: offset_to_last, history: recent}, embedding: {buckets: 4, dim: 2}}
"""


@pytest.mark.parametrize(
    ("table", "change", "rows", "reason"),
    [
        ("ids", ("buckets: 6, dim: 2}}", "buckets: 12, dim: 2}}"), 16, "6 buckets to 12"),
        ("ids", ("buckets: 6, dim: 2}}", "buckets: 3, dim: 2}}"), 7, "mean of the rows"),
        ("ids", ("buckets: 6, dim: 2}}", "buckets: 7, dim: 2}}"), None, "neither is a multiple"),
        ("ids", ("buckets: 6, dim: 2}}", "buckets: 6, dim: 3}}"), None, "hash of dim 2 then, hash of dim 3 now"),
        ("ids", ("buckets: 6, dim: 2}}", "buckets: 6, dim: 2, method: multi_hash}}"), None, "multi_hash of dim 2, 2 hashes now"),
        ("device", ("[phone, tablet]", "[tablet]"), 6, "1 of 1 values keep"),
        ("device", ("vocabulary: [phone, tablet], ", ""), None, "a vocabulary came, went"),
        ("brand", ("buckets: 6, dim: 2, method", "buckets: 12, dim: 2, method"), None, "quotient and remainder"),
        ("brand", ("method: quotient_remainder", "method: quotient_remainder, collisions: 3"), None, "3 collisions now"),
        ("brand", ("item.brand", "item.make"), 6, ""),
        ("offset", ("buckets: 4", "buckets: 6"), 10, "4 of 6 values keep"),
    ],
)
def test_what_becomes_of_a_table(table: str, change: tuple[str, str], rows: int | None, reason: str) -> None:
    assert change[0] in SPEC
    specs = tiny_spec(SPEC), tiny_spec(SPEC.replace(*change))
    buckets = {"ids": 6, "device": 2, "brand": 2, "offset": 4}[table]
    carried = carry_over(specs, table, _table(buckets + 4), np.full([rows or 11, 2], -1.0, np.float32))
    assert reason in carried.reason
    assert (None if carried.rows is None else len(carried.rows)) == rows


def test_whole_numbers_keep_their_row() -> None:
    """4 buckets hold -2 .. 1 and 6 hold -3 .. 2: old rows 4 .. 7 become rows 5 .. 8."""
    specs = tiny_spec(SPEC), tiny_spec(SPEC.replace("buckets: 4", "buckets: 6"))
    carried = carry_over(specs, "offset", _table(8), np.full([10, 2], -1.0, np.float32)).rows
    assert carried is not None and carried[:, 0].tolist() == [0, 2, 4, 6, -1, 8, 10, 12, 14, -1]
