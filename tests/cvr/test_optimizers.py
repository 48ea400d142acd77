"""LazyAdam against Keras Adam and a NumPy reference; each variable owned by exactly one optimizer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from cvr.optimizers import LazyAdam, make_optimizer
from cvr.schedules import WarmupCosine

RATE, B1, B2, EPSILON = 0.05, 0.9, 0.999, 1e-7


def _table(rows: int = 6, dim: int = 3) -> tf.Variable:
    return tf.Variable(np.random.default_rng(1).normal(0, 1, (rows, dim)).astype(np.float32), name="table")


def _sparse(values: np.ndarray, rows: list[int], table: tf.Variable) -> tf.IndexedSlices:
    return tf.IndexedSlices(
        tf.constant(values, tf.float32), tf.constant(rows), dense_shape=tf.constant(table.shape.as_list())
    )


class _Reference:
    """The equations of LazyAdam in float64, row by row."""

    def __init__(self, weights: np.ndarray, row_decay: float = 0.0) -> None:
        self.weights, self.decay, self.step = weights.astype(np.float64), row_decay, 0
        self.first, self.second = np.zeros_like(self.weights), np.zeros_like(self.weights)

    def apply(self, values: np.ndarray, rows: list[int]) -> None:
        self.step += 1
        correction = np.sqrt(1 - B2**self.step) / (1 - B1**self.step)
        for row in set(rows):
            gradient = sum(values[i] for i, r in enumerate(rows) if r == row)
            self.first[row] = B1 * self.first[row] + (1 - B1) * gradient
            self.second[row] = B2 * self.second[row] + (1 - B2) * gradient**2
            change = (
                correction * self.first[row] / (np.sqrt(self.second[row]) + EPSILON) + self.decay * self.weights[row]
            )
            self.weights[row] -= RATE * change


def _gradients(steps: int, count: int, dim: int = 3) -> list[np.ndarray]:
    source = np.random.default_rng(2)
    return [source.normal(0, 1, (count, dim)) for _ in range(steps)]


def test_equals_keras_adam_where_every_row_is_used() -> None:
    lazy_table, dense_table = _table(), _table()
    lazy, dense = LazyAdam(RATE), tf.keras.optimizers.Adam(RATE, jit_compile=False)
    for values in _gradients(5, 6):
        lazy.apply_gradients([(_sparse(values, list(range(6)), lazy_table), lazy_table)])
        dense.apply_gradients([(tf.constant(values, tf.float32), dense_table)])
    np.testing.assert_allclose(lazy_table.numpy(), dense_table.numpy(), atol=1e-6)


@pytest.mark.parametrize("row_decay", [0.0, 0.1])
def test_equals_the_equations(row_decay: float) -> None:
    """Rows come and go, some twice in one step; momentum waits for a row's next use."""
    table = _table()
    reference = _Reference(table.numpy(), row_decay)
    optimizer = LazyAdam(RATE, row_decay=row_decay)
    for rows, values in zip([[0, 2], [2, 5, 2], [5, 0], [2], [0, 0]], _gradients(5, 3), strict=True):
        optimizer.apply_gradients([(_sparse(values[: len(rows)], rows, table), table)])
        reference.apply(values[: len(rows)], rows)
    np.testing.assert_allclose(table.numpy(), reference.weights, atol=1e-5)


def test_rows_that_a_batch_does_not_use_stay_bit_equal() -> None:
    table = _table()
    optimizer = LazyAdam(RATE, row_decay=0.1)
    optimizer.apply_gradients([(_sparse(_gradients(1, 6)[0], list(range(6)), table), table)])
    before = [variable.numpy() for variable in (table, *optimizer._momentums, *optimizer._velocities)]
    optimizer.apply_gradients([(_sparse(np.ones((2, 3)), [1, 4], table), table)])
    after = [variable.numpy() for variable in (table, *optimizer._momentums, *optimizer._velocities)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[[0, 2, 3, 5]], old[[0, 2, 3, 5]])
        assert (new[[1, 4]] != old[[1, 4]]).all()


def test_gradients_of_a_row_used_twice_are_summed_once() -> None:
    twice, once = _table(), _table()
    values = _gradients(1, 2)[0]
    for table, gradient in ((twice, _sparse(values, [3, 3], twice)), (once, _sparse(values.sum(0)[None], [3], once))):
        LazyAdam(RATE).apply_gradients([(gradient, table)])
    np.testing.assert_allclose(twice.numpy(), once.numpy(), atol=1e-7)


def test_config_keeps_the_row_decay() -> None:
    assert LazyAdam.from_config(LazyAdam(RATE, row_decay=0.2).get_config()).row_decay == 0.2


# Table and dense weights together ----------------------------------------------------------------------------------------


class _Model:
    """A table, a kernel and a bias."""

    def __init__(self) -> None:
        self.table = _table()
        self.kernel = tf.Variable(np.full((3, 2), 0.5, np.float32), name="dense/kernel:0")
        self.bias = tf.Variable(np.full(2, 0.5, np.float32), name="dense/bias:0")

    def gradients(self) -> list[tuple[tf.Tensor | tf.IndexedSlices, tf.Variable]]:
        zero = (tf.zeros([3, 2]), self.kernel), (tf.zeros([2]), self.bias)
        return [(_sparse(np.ones((2, 3)), [1, 4], self.table), self.table), *zero]


def _constant(rate: float) -> WarmupCosine:
    return WarmupCosine(rate, 0, 10**9)


def _optimizer(tables: Callable, dense: Callable, **decays: float) -> tf.keras.optimizers.legacy.Optimizer:
    return make_optimizer(tables, dense, _constant(0.5), _constant(RATE), **decays)


def test_each_part_has_its_own_rate_and_decay() -> None:
    model = _Model()
    reference = _Reference(model.table.numpy())
    optimizer = _optimizer(lambda: [model.table], lambda: [model.kernel, model.bias], weight_decay=0.1)
    optimizer.apply_gradients(model.gradients())
    reference.apply(np.ones((2, 3)), [1, 4])
    np.testing.assert_allclose(model.table.numpy(), reference.weights, atol=1e-6)  # tables take no weight decay
    np.testing.assert_allclose(model.kernel.numpy(), 0.5 - 0.5 * 0.1 * 0.5, atol=1e-6)  # rate * decay * weight
    np.testing.assert_array_equal(model.bias.numpy(), [0.5, 0.5])  # biases are not decayed


def test_a_variable_with_no_owner_or_two_is_an_error() -> None:
    model = _Model()
    with pytest.raises(ValueError, match="disjoint"):
        _optimizer(lambda: [model.table], lambda: [model.table, model.kernel, model.bias]).apply_gradients(
            model.gradients()
        )
    with pytest.raises(ValueError, match="bias"):
        _optimizer(lambda: [model.table], lambda: [model.kernel]).apply_gradients(model.gradients())
