"""The matrix products of a traced graph, and the time that TensorFlow takes for each of them alone.

A training step multiplies every kernel three times: forward, for the gradient of its input, and for its own. `products_of` lists what the
traced graph really multiplies, with the shapes, transposes and type; `Replay` runs the same products one by one on random matrices, an
Einsum as a plain product of the same sizes.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Sequence

import tensorflow as tf

from cvr.errors import CvrError

_PLAIN = {"MatMul": ("transpose_a", "transpose_b"), "BatchMatMulV2": ("adj_x", "adj_y"), "BatchMatMulV3": ("adj_x", "adj_y")}


@dataclasses.dataclass(frozen=True)
class Product:
    """A product of two matrices, or of as many pairs as there are leading rows: their shapes as stored, and which are transposed (`nt`)."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    transposed: str
    dtype: str

    @property
    def flops(self) -> int:
        """2 per multiply-add."""
        rows, inner = self.first[-2:] if self.transposed[0] == "n" else self.first[:-3:-1]
        columns = self.second[-1] if self.transposed[1] == "n" else self.second[-2]
        return 2 * max(math.prod(self.first[:-2]), math.prod(self.second[:-2])) * rows * inner * columns

    def run(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """The operation."""
        one, other = (letter == "t" for letter in self.transposed)
        return tf.matmul(first, second, transpose_a=one, transpose_b=other)

    def describe(self) -> str:
        """`1024x512 . 512x64 nn float32`."""
        shapes = " . ".join("x".join(map(str, shape)) for shape in (self.first, self.second))
        return f"{shapes} {self.transposed} {self.dtype}"


def of_einsum(equation: str, first: Sequence[int], second: Sequence[int], dtype: str) -> Product:
    """The plain product that does the work of an Einsum: axes of both and of the result are pairs, those of both alone are summed over."""
    inputs, output = equation.split("->")
    left, right = inputs.split(",")
    size = {**dict(zip(left, first, strict=True)), **dict(zip(right, second, strict=True))}

    def over(axes: Iterable[str]) -> int:
        return math.prod(size[axis] for axis in axes)

    both = set(left) & set(right)
    pairs, inner = over(both & set(output)), over(both - set(output))
    rows, columns = over(set(left) - both), over(set(right) - both)
    return Product((pairs, rows, inner), (pairs, inner, columns), "nn", dtype)


def products_of(graph: tf.Graph) -> list[Product]:
    """All products of a graph in its order. Raises CvrError for one of unknown shape, and for one inside a function or loop."""
    inner = [node.op for function in graph.as_graph_def().library.function for node in function.node_def if _multiplies(node.op)]
    if inner:
        raise CvrError(f"{len(inner)} matrix products of the step lie in functions of their own, where nothing says how often they run")
    return [_product(op) for op in graph.get_operations() if _multiplies(op.type)]


def _multiplies(kind: str) -> bool:
    return kind in _PLAIN or kind == "Einsum" or "MatMul" in kind


def _product(op: tf.Operation) -> Product:
    shapes = [value.shape for value in op.inputs]
    if op.type not in (*_PLAIN, "Einsum") or len(shapes) != 2 or not all(shape.is_fully_defined() for shape in shapes):
        raise CvrError(f"{op.name} ({op.type} of {', '.join(map(str, shapes))}): expected a product of two matrices of known shapes")
    first, second = (tuple(shape.as_list()) for shape in shapes)
    if op.type == "Einsum":
        return of_einsum(op.get_attr("equation").decode(), first, second, op.inputs[0].dtype.name)
    return Product(first, second, "".join("nt"[op.get_attr(name)] for name in _PLAIN[op.type]), op.inputs[0].dtype.name)


def flops_of(products: Iterable[Product]) -> int:
    """Of all products together."""
    return sum(product.flops for product in products)


class Replay:
    """Runs the products of a step alone, each as often as the step does, and keeps the seconds of each pass."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.counts = collections.Counter(products)
        self.passes: list[dict[Product, float]] = []

    def turn(self) -> float:
        """One pass over all products: seconds, less what TensorFlow takes to call so many operations on 8 x 8 matrices.

        A product that the step has several times runs at most three times, and its median counts for all.
        """
        call = _median_call(Product((8, 8), (8, 8), "nn", "float32"), 20)
        found = {product: max(_median_call(product, min(count, 3)) - call, 0.0) for product, count in self.counts.items()}
        self.passes.append(found)
        return sum(seconds * self.counts[product] for product, seconds in found.items())

    def slowest(self, most: int) -> list[tuple[Product, int, float]]:
        """(product, how often, median seconds of one) of those that take most of a step."""
        medians = {product: statistics.median(found[product] for found in self.passes) for product in self.counts}
        ordered = sorted(medians, key=lambda product: -medians[product] * self.counts[product])
        return [(product, self.counts[product], medians[product]) for product in ordered[:most]]


def _median_call(product: Product, calls: int) -> float:
    """Seconds of one call, after one that is not timed."""
    kind = tf.as_dtype(product.dtype)
    first, second = (tf.cast(tf.random.stateless_uniform(shape, [1, 2], -1.0, 1.0), kind) for shape in (product.first, product.second))
    times = []
    for _ in range(calls + 1):
        started = time.perf_counter()
        product.run(first, second)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
