"""A ranker as a graph of shapes: traced for batches of a given size, while neither weights nor data take any memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable

from cvr.data import Batch
from cvr.precision import precision
from cvr.ranker import Ranker, RankerConfig, make_variables
from cvr.schema import FeatureSpec

Shapes = dict[str, tf.TensorSpec]


@dataclasses.dataclass(frozen=True)
class Trace:
    """A graph in the order in which it was made; of a training step, `forward` operations come before those of the backward pass."""

    graph: tf.Graph
    outputs: tuple[tf.Tensor, ...]
    forward: int


@contextmanager
def without_memory() -> Iterator[None]:
    """Variables made inside have a shape and no values, so that a layer of any size can be traced."""

    def create(make: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
        del make
        start = kwargs["initial_value"]
        shape, dtype = kwargs.get("shape"), kwargs.get("dtype")
        if shape is None or dtype is None:
            value = tf.convert_to_tensor(start() if callable(start) else start, dtype)
            shape, dtype = value.shape, value.dtype
        return UninitializedVariable(shape=shape, dtype=dtype, trainable=kwargs["trainable"], name=kwargs["name"])

    with tf.variable_creator_scope(create):
        yield


def shapes_of(batch: Batch) -> Shapes:
    """Of every tensor of a batch."""
    return {name: tf.TensorSpec(values.shape, values.dtype) for name, values in batch.items()}


def abstract_ranker(spec: FeatureSpec, config: RankerConfig, shapes: Shapes) -> Ranker:
    """A ranker whose variables have shapes and no values: it can be traced and counted, not run."""
    with without_memory(), precision(config.precision):
        ranker = Ranker(spec, config)
        tf.function(lambda batch: make_variables(ranker, batch), autograph=False).get_concrete_function(shapes)
    return ranker


def trace_scoring(ranker: Ranker, shapes: Shapes) -> Trace:
    """Scoring a batch."""
    graph = tf.function(lambda batch: ranker(batch), autograph=False).get_concrete_function(shapes).graph
    return Trace(graph, tuple(graph.outputs), len(graph.get_operations()))


def trace_training(ranker: Ranker, shapes: Shapes) -> Trace:
    """Scoring a batch and the gradients of all trainable variables, without loss and optimizer."""
    forward = 0

    def step(batch: Batch) -> list[tf.Tensor]:
        nonlocal forward
        with tf.GradientTape() as tape:
            targets = [ranker(batch, training=True), *ranker.losses]
        forward = len(tf.compat.v1.get_default_graph().get_operations())
        gradients = tape.gradient(targets, ranker.trainable_variables)
        return [part for gradient in gradients for part in _dense_parts(gradient)]

    graph = tf.function(step, autograph=False).get_concrete_function(shapes).graph
    return Trace(graph, tuple(graph.outputs), forward)


def _dense_parts(gradient: tf.Tensor | tf.IndexedSlices | None) -> list[tf.Tensor]:
    if gradient is None:
        return []
    return [gradient.values, gradient.indices] if isinstance(gradient, tf.IndexedSlices) else [gradient]
