"""Sums of repeated rows against NumPy, in both ways."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.gradients import global_norm, scaled, sum_rows


@pytest.mark.parametrize("by_sorting", [False, True])
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 5), max_size=12), seed=st.integers(0, 99))
def test_each_row_stands_with_its_sum(by_sorting: bool, rows: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(len(rows), 2)).astype(np.float32)
    expected = np.zeros((6, 2))
    np.add.at(expected, np.array(rows, int), values)
    found, squares = sum_rows(tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int64)), by_sorting)
    assert sorted(found.indices.numpy()) == (sorted(rows) if by_sorting else sorted(set(rows)))
    np.testing.assert_allclose(found.values.numpy(), expected[found.indices.numpy()], atol=1e-5)
    np.testing.assert_allclose(squares.numpy(), (expected**2).sum(), rtol=1e-5, atol=1e-6)


def test_the_global_norm_is_that_of_all_gradients_side_by_side() -> None:
    assert float(global_norm([tf.constant(9.0), tf.constant(16.0), tf.constant(0.0)])) == 5.0


def test_scaling_keeps_the_rows_and_the_type() -> None:
    sparse = scaled(tf.IndexedSlices(tf.ones([2, 3], tf.bfloat16), tf.constant([4, 4])), tf.constant(0.5))
    assert sparse.values.dtype == tf.bfloat16
    np.testing.assert_array_equal(sparse.indices.numpy(), [4, 4])
    np.testing.assert_array_equal(tf.cast(sparse.values, tf.float32).numpy(), np.full((2, 3), 0.5))
