"""What TensorFlow's profiler counts in a layer: the oracle of the counts that layers and backbones give themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable


@dataclasses.dataclass(frozen=True)
class Profile:
    """Of one item: trainable numbers, FLOPs of matrix products, FLOPs of every operation that the profiler knows."""

    parameters: int
    products: int
    operations: int


@contextmanager
def without_memory() -> Iterator[None]:
    """Variables made inside have a shape and no values, so that a layer of any size can be traced."""

    def create(make: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
        del make
        shape = kwargs["shape"] if kwargs.get("shape") is not None else kwargs["initial_value"]().shape
        return UninitializedVariable(shape=shape, dtype=kwargs["dtype"], trainable=kwargs["trainable"], name=kwargs["name"])

    with tf.variable_creator_scope(create):
        yield


def profile(backbone: tf.keras.layers.Layer) -> Profile:
    """Counts the graph of a backbone on one item, whether it has been built or not."""
    specs = {name: tf.TensorSpec([1, width]) for name, width in backbone.views.items()}
    with without_memory():
        graph = tf.function(backbone, autograph=False).get_concrete_function(specs).graph
    parameters = sum(int(np.prod(variable.shape)) for variable in backbone.trainable_variables)
    return Profile(parameters, _count(graph, ".*MatMul.*"), _count(graph, ".*"))


def _count(graph: tf.Graph, kinds: str) -> int:
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options |= {"output": "none", "account_type_regexes": [kinds]}
    return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
