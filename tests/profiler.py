"""What TensorFlow's profiler counts in a graph: the oracle of the counts that layers, backbones and rankers give themselves.

It reads `BatchMatMul` wrongly where the first matrix is transposed (it looks for MatMul's attribute), does not see `Einsum` at all, and
counts the body of a loop once; `_missed` puts that right with the operations' own definitions. tests/test_profiler.py holds all of it
against products that are worked out by hand.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf

from cvr.tracing import without_memory


@dataclasses.dataclass(frozen=True)
class Profile:
    """Of one item: trainable numbers, FLOPs of matrix products, FLOPs of every operation that the profiler knows."""

    parameters: int
    products: int
    operations: int


def profile(backbone: tf.keras.layers.Layer) -> Profile:
    """Counts the graph of a backbone on one item, whether it has been built or not."""
    specs = {name: tf.TensorSpec([1, width]) for name, width in backbone.views.items()}
    with without_memory():
        graph = tf.function(backbone, autograph=False).get_concrete_function(specs).graph
    parameters = sum(int(np.prod(variable.shape)) for variable in backbone.trainable_variables)
    return Profile(parameters, products_of(graph), operations_of(graph))


def products_of(graph: tf.Graph) -> int:
    """FLOPs of the matrix products of a graph whose shapes are known."""
    return _count(graph, ".*MatMul.*") + _missed(graph)


def operations_of(graph: tf.Graph) -> int:
    """FLOPs of every operation that the profiler knows, and of the products that it misses."""
    return _count(graph, ".*") + _missed(graph)


def _count(graph: tf.Graph, kinds: str) -> int:
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options |= {"output": "none", "account_type_regexes": [kinds]}
    return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)


def _missed(graph: tf.Graph) -> int:
    return sum(_RULES[operation.type](operation) for operation in graph.get_operations() if operation.type in _RULES)


def _einsum(operation: tf.Operation) -> int:
    """A multiply-add for each combination of the indices."""
    terms = operation.get_attr("equation").decode().partition("->")[0].split(",")
    axes = [pair for term, tensor in zip(terms, operation.inputs, strict=True) for pair in zip(term, tensor.shape, strict=True)]
    return 2 * math.prod(dict(axes).values())


def _transposed(operation: tf.Operation) -> int:
    """The profiler takes a transposed first matrix for the number of columns that it has as it stands."""
    rows, columns = operation.inputs[0].shape[-2:]
    return 2 * (rows - columns) * math.prod(operation.outputs[0].shape) if operation.get_attr("adj_x") else 0


def _loop(operation: tf.Operation) -> int:
    """Its body, once for each element of the sequence that it reads; the profiler has counted it once."""
    body = operation.graph._get_function(operation.get_attr("body").name).graph
    (sequence,) = {tensor.op.inputs[0].shape[0] for tensor in operation.inputs if tensor.op.type == "TensorListFromTensor"}
    return sequence * products_of(body) - _count(body, ".*MatMul.*")


_RULES = {
    "Einsum": _einsum,
    "While": _loop,
    "StatelessWhile": _loop,
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _transposed),
}
