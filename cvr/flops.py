"""Cost of a ranker: parameters, floating-point operations per item and per list, bytes of embeddings."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from cvr.layers.mmoe import MMoE
from cvr.ranker import Ranker


@dataclasses.dataclass(frozen=True)
class Cost:
    """Parameters are trainable numbers; FLOPs count 2 per multiply-add of matrix products (PAPERS 1.3), embeddings and norms not."""

    parameters: int
    dense_parameters: int
    embedding_bytes: int
    flops_per_item: int
    flops_per_list: int

    def describe(self) -> str:
        """Three lines for a terminal."""
        return (
            f"parameters       {self.parameters:>14,}   ({self.dense_parameters:,} dense)\n"
            f"FLOPs per item   {self.flops_per_item:>14,}   (+ {self.flops_per_list:,} per list for its context)\n"
            f"embedding bytes  {self.embedding_bytes:>14,}"
        )


def _products(layer: tf.keras.layers.Layer) -> int:
    """Multiply-adds of a layer whose kernels are each applied once to a row: the numbers in its matrices."""
    return sum(int(np.prod(v.shape)) for v in layer.trainable_variables if v.shape.rank >= 2 and "bias" not in v.name)


def _mixture(layer: MMoE) -> int:
    return layer.tasks * layer.experts * layer.expert_width


def cost_of(ranker: Ranker) -> Cost:
    """Cost of a built ranker.

    Per item: the item part of the projection, the backbone (which counts itself) and the head. Per list: the context part of the
    projection. Encoding the history is not counted; it depends on the history's length.
    """
    count = sum(int(np.prod(v.shape)) for v in ranker.trainable_variables)
    tables = ranker.extraction.table_variables
    sparse = sum(int(np.prod(v.shape)) for v in tables)
    item = int(np.prod(ranker.projection.item_kernel.shape))
    item += ranker.backbone.multiply_adds() + _products(ranker.head) + _mixture(ranker.head)
    return Cost(
        parameters=count,
        dense_parameters=count - sparse,
        embedding_bytes=sum(int(np.prod(v.shape)) * v.dtype.size for v in tables),
        flops_per_item=2 * item,
        flops_per_list=2 * int(np.prod(ranker.projection.context_kernel.shape)),
    )
