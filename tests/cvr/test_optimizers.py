"""Table optimizers against Keras and NumPy references, with and without XLA; clipping; each variable owned by exactly one optimizer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from cvr.optimizers import FusedAdam, LazyAdam, OptimizerConfig, RowwiseAdagrad, make_optimizer
from cvr.schedules import WarmupCosine

RATE, B1, B2, EPSILON = 0.05, 0.9, 0.999, 1e-7
STEPS = [[0, 2, 2], [2, 5, 2], [5, 0, 1], [2, 2, 2], [0, 0, 5]]
"""Rows that come and go, some twice or thrice in one step; 3 and 4 never."""


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


class _AdagradReference(_Reference):
    """The equations of RowwiseAdagrad in float64, row by row."""

    def __init__(self, weights: np.ndarray, row_decay: float = 0.0) -> None:
        super().__init__(weights, row_decay)
        self.total = np.full(len(weights), 0.1)

    def apply(self, values: np.ndarray, rows: list[int]) -> None:
        for row in set(rows):
            gradient = sum(values[i] for i, r in enumerate(rows) if r == row)
            self.total[row] += np.mean(gradient**2)
            self.weights[row] -= RATE * (gradient / np.sqrt(self.total[row] + EPSILON) + self.decay * self.weights[row])


def _stepper(optimizer: tf.keras.optimizers.Optimizer, table: tf.Variable, jit_compile: bool = False) -> Callable:
    """values, rows -> one step of the optimizer on the table, in a graph."""
    optimizer.build([table])

    @tf.function(autograph=False, jit_compile=jit_compile or None)
    def step(values: tf.Tensor, rows: tf.Tensor) -> None:
        optimizer.apply_gradients([(tf.IndexedSlices(values, rows, tf.constant(table.shape.as_list())), table)])

    return lambda values, rows: step(tf.constant(values, tf.float32), tf.constant(rows, tf.int64))


@pytest.mark.parametrize("repeats", ["unique", "sort"])
def test_equals_keras_adam_where_every_row_is_used(repeats: str) -> None:
    """With row 3 used twice a step, its gradients halves of the dense one."""
    lazy_table, dense_table = _table(), _table()
    lazy, dense = _stepper(LazyAdam(RATE, repeats=repeats), lazy_table), tf.keras.optimizers.Adam(RATE, jit_compile=False)
    for values in _gradients(20, 6):
        dense.apply_gradients([(tf.constant(values, tf.float32), dense_table)])
        halves = values * np.where(np.arange(6) == 3, 0.5, 1.0)[:, None]
        lazy(np.vstack([halves, halves[3]]), [0, 1, 2, 3, 4, 5, 3])
    np.testing.assert_allclose(lazy_table.numpy(), dense_table.numpy(), atol=1e-6)


@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fused_adam_is_keras_adam(jit_compile: bool, decay: float | None) -> None:
    """Up to 1 - b2, which the operation takes in float32, where it is off by 5e-5; so is its bias correction, which cancels."""
    ours, theirs = _table(), _table()
    fused, keras = FusedAdam(RATE, weight_decay=decay), tf.keras.optimizers.Adam(RATE, weight_decay=decay, jit_compile=False)
    fused.build([ours])
    step = tf.function(lambda values: fused.apply_gradients([(values, ours)]), autograph=False, jit_compile=jit_compile)
    for values in _gradients(20, 6):
        step(tf.constant(values, tf.float32))
        keras.apply_gradients([(tf.constant(values, tf.float32), theirs)])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=20 * RATE * 2.5e-5)
    for one, other in zip(fused.variables[1:], keras.variables[1:], strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4)


@pytest.mark.parametrize("row_decay", [0.0, 0.1])
@pytest.mark.parametrize(("repeats", "jit_compile"), [("unique", False), ("sort", False), ("sort", True)])
@pytest.mark.parametrize(("kind", "reference"), [(LazyAdam, _Reference), (RowwiseAdagrad, _AdagradReference)])
def test_equals_the_equations(kind: type, reference: type, repeats: str, jit_compile: bool, row_decay: float) -> None:
    table = _table()
    expected = reference(table.numpy(), row_decay)
    step = _stepper(kind(RATE, row_decay=row_decay, repeats=repeats), table, jit_compile)
    for rows, values in zip(STEPS, _gradients(5, 3), strict=True):
        step(values, rows)
        expected.apply(values, rows)
    np.testing.assert_allclose(table.numpy(), expected.weights, atol=1e-5)
    np.testing.assert_array_equal(table.numpy()[[3, 4]], _table().numpy()[[3, 4]])


@pytest.mark.parametrize("dense_gradient", [False, True])
def test_rowwise_adagrad_of_dim_1_is_keras_adagrad(dense_gradient: bool) -> None:
    tables = _table(dim=1), _table(dim=1)
    optimizers = RowwiseAdagrad(RATE), tf.keras.optimizers.Adagrad(RATE, jit_compile=False)
    for rows, values in zip(STEPS, _gradients(5, 6, 1), strict=True):
        for optimizer, table in zip(optimizers, tables, strict=True):
            sparse = _sparse(values[:3], rows, table)
            optimizer.apply_gradients([(tf.constant(values, tf.float32) if dense_gradient else sparse, table)])
    np.testing.assert_allclose(tables[0].numpy(), tables[1].numpy(), atol=1e-6)
    assert np.abs(tables[0].numpy() - _table(dim=1).numpy()).max() > 0.05


def test_rowwise_adagrad_keeps_one_number_per_row() -> None:
    optimizer = RowwiseAdagrad(RATE)
    optimizer.build([_table()])
    assert [v.shape.as_list() for v in optimizer._accumulators] == [[6]]


def test_a_row_first_used_late_moves_by_the_documented_step() -> None:
    table = _table()
    step = _stepper(LazyAdam(RATE), table)
    for _ in range(3000):
        step(np.ones((1, 3)), [0])
    step(np.ones((1, 3)), [1])
    moved = (_table().numpy() - table.numpy())[1]
    np.testing.assert_allclose(moved, RATE * np.sqrt(1 - B2**3001) * (1 - B1) / np.sqrt(1 - B2), rtol=1e-3)


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


@pytest.mark.parametrize("kind", [LazyAdam, RowwiseAdagrad])
def test_config_keeps_what_an_optimizer_was_made_of(kind: type) -> None:
    again = kind.from_config(kind(RATE, row_decay=0.2, repeats="sort").get_config())
    assert (again.row_decay, again.repeats, float(again.learning_rate)) == (0.2, "sort", pytest.approx(RATE))


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


def _optimizer(tables: Callable, dense: Callable, **settings: object) -> tf.keras.optimizers.legacy.Optimizer:
    return make_optimizer(tables, dense, _constant(0.5), _constant(RATE), OptimizerConfig(**settings))


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


# The global norm ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_sorting", [False, True])
@pytest.mark.parametrize(("clip_norm", "scale"), [(0.0, 1.0), (26.0, 1.0), (6.5, 0.5)])
def test_norm_and_clip_of_rows_used_twice(clip_norm: float, scale: float, by_sorting: bool) -> None:
    """The table's gradient is (3, 4, 0) + (0, 0, 12) = (3, 4, 12) in row 1, of norm 13; row 4 cancels to 0.

    The raw values would have the norm sqrt(5^2 + 12^2 + 9^2 + 9^2) = 18.2."""
    model, plain = _Model(), _Model()
    values = [[3, 4, 0], [0, 9, 0], [0, 0, 12], [0, -9, 0]]
    settings = {"clip_norm": clip_norm, "by_sorting": by_sorting, "table_optimizer": "rowwise_adagrad"}
    optimizer = _optimizer(lambda: [model.table], lambda: [model.kernel, model.bias], **settings)
    zeros = [(tf.zeros_like(v), v) for v in (model.kernel, model.bias)]
    norm = optimizer.apply_gradients([(_sparse(values, [1, 4, 1, 4], model.table), model.table), *zeros])
    assert float(norm) == pytest.approx(13.0, rel=1e-6)
    reference = _AdagradReference(plain.table.numpy())
    reference.apply(scale * np.array([[3, 4, 12]]), [1])
    np.testing.assert_allclose(model.table.numpy(), reference.weights, atol=1e-6)


def test_one_norm_over_dense_and_sparse_gradients() -> None:
    """3 in a dense gradient, 4 in the table: norm 5, cut to 1; Adagrad's step of a table tells by how much."""
    model = _Model()
    optimizer = _optimizer(lambda: [model.table], lambda: [model.kernel, model.bias], clip_norm=1.0, table_optimizer="rowwise_adagrad")
    kernel = tf.constant([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    pairs = [(_sparse([[0, 4, 0]], [2], model.table), model.table), (kernel, model.kernel), (None, model.bias)]
    assert float(optimizer.apply_gradients(pairs)) == pytest.approx(5.0, rel=1e-6)
    reference = _AdagradReference(_table().numpy())
    reference.apply(np.array([[0, 0.8, 0]]), [2])
    np.testing.assert_allclose(model.table.numpy(), reference.weights, atol=1e-6)
    np.testing.assert_allclose(optimizer.optimizers[0]._momentums[0].numpy()[0, 0], 0.1 * 3 / 5, rtol=1e-5)
    np.testing.assert_array_equal(model.bias.numpy(), [0.5, 0.5])  # no gradient, no step


def test_sparse_gradients_of_dense_variables_are_summed_once() -> None:
    """By sorting a repeated row comes repeatedly; Keras Adam, which owns this variable, must not add it up again."""
    model = _Model()
    optimizer = _optimizer(lambda: [model.table], lambda: [model.kernel], by_sorting=True)
    gradient = _sparse(np.ones((2, 2)), [1, 1], model.kernel)
    norm = optimizer.apply_gradients([(gradient, model.kernel), (_sparse([[0, 0, 1]], [0], model.table), model.table)])
    assert float(norm) == pytest.approx(3.0, rel=1e-6)
    np.testing.assert_allclose(optimizer.optimizers[0]._momentums[0].numpy()[1], [0.2, 0.2], rtol=1e-5)


@pytest.mark.parametrize("table_optimizer", ["lazy_adam", "rowwise_adagrad"])
def test_no_operation_of_a_step_is_as_large_as_the_table(table_optimizer: str) -> None:
    table = _table(rows=1000)
    optimizer = _optimizer(lambda: [table], list, table_optimizer=table_optimizer, row_decay=0.1, clip_norm=1.0)

    @tf.function(autograph=False)
    def step(rows: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, rows) ** 2)
        return optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    graph = step.get_concrete_function(tf.constant([1, 4, 1, 0], tf.int64)).graph
    sizes = {op.name: output.shape[0] for op in graph.get_operations() for output in op.outputs if output.shape.rank}
    assert len(sizes) > 10
    assert [name for name, size in sizes.items() if size == 1000] == []


# XLA ---------------------------------------------------------------------------------------------------------------------


def _hlo(table_optimizer: str, by_sorting: bool) -> str:
    """The step of a table and its optimizer as XLA gets it."""
    table = _table()
    settings = {"clip_norm": 1.0, "by_sorting": by_sorting, "table_optimizer": table_optimizer}
    optimizer = _optimizer(lambda: [table], list, **settings)

    @tf.function(autograph=False, jit_compile=True)
    def step(rows: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, rows) ** 2)
        return optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    return step.experimental_get_compiler_ir(tf.constant([1, 4, 1, 0], tf.int64))(stage="hlo")


@pytest.mark.parametrize("table_optimizer", ["lazy_adam", "rowwise_adagrad"])
def test_a_compiled_step_has_no_loop_over_the_ids(table_optimizer: str) -> None:
    """`tf.unique` is such a loop, so the check can fail."""
    assert " while(" not in _hlo(table_optimizer, by_sorting=True)
    assert " while(" in _hlo(table_optimizer, by_sorting=False)
