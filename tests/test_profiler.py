"""The oracle of the costs: products worked out by hand, also where TensorFlow's profiler alone is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tensorflow as tf

from tests.profiler import _count, operations_of, products_of

A, B = [7, 5, 3], [7, 5, 2]


def _graph(function: Callable[..., tf.Tensor], *shapes: list[int]) -> tf.Graph:
    return tf.function(function, autograph=False).get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes)).graph


@pytest.mark.parametrize(
    ("function", "shapes", "multiply_adds", "alone"),
    [
        (tf.matmul, ([5, 3], [3, 2]), 5 * 3 * 2, 5 * 3 * 2),
        (lambda a, b: tf.matmul(a, b, transpose_a=True), ([5, 3], [5, 2]), 3 * 5 * 2, 3 * 5 * 2),
        (lambda a, b: tf.matmul(a, b, transpose_b=True), (A, [7, 4, 3]), 7 * 5 * 3 * 4, 7 * 5 * 3 * 4),
        (lambda a, b: tf.matmul(a, b, transpose_a=True), (A, B), 7 * 3 * 5 * 2, 7 * 3 * 3 * 2),
        (tf.linalg.matvec, (A, [3]), 7 * 5 * 3, 7 * 5 * 3),
        (lambda a, b: tf.einsum("nte,new->ntw", a, b), (A, [7, 3, 2]), 7 * 5 * 3 * 2, 0),
        (lambda a, b: tf.einsum("ntw,twh->nth", a, b), (A, [5, 3, 4]), 7 * 5 * 3 * 4, 0),
    ],
)
def test_products(function: Callable[..., tf.Tensor], shapes: list[list[int]], multiply_adds: int, alone: int) -> None:
    graph = _graph(function, *shapes)
    assert products_of(graph) == operations_of(graph) == 2 * multiply_adds
    assert _count(graph, ".*MatMul.*") == 2 * alone


def test_a_recurrent_network() -> None:
    """GRU over 6 steps of width 3: 6 d^2 each, 3 d^2 of the input and 3 d^2 of the state."""
    layer = tf.keras.layers.RNN(tf.keras.layers.GRUCell(3))
    layer(tf.zeros([5, 6, 3]))
    graph = _graph(layer, [5, 6, 3])
    assert products_of(graph) == 2 * 5 * 6 * 6 * 3**2 == 6 * _count(graph, ".*MatMul.*")


def test_operations_without_products_count_once() -> None:
    graph = _graph(lambda a, b: tf.nn.softmax(a) + tf.reduce_sum(a * b), [5, 3], [5, 3])
    assert products_of(graph) == 0 and operations_of(graph) == _count(graph, ".*") > 2 * 15
