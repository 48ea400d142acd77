"""Cost of a ranker, part by part: parameters, floating-point operations per item and per list.

Counted from the layers' sizes, 2 FLOPs per multiply-add of a matrix product (PAPERS 1.3). What has no matrix product costs nothing here:
look-ups, derived features, norms, activations, biases. A history costs by its full length, because it is padded to it. A list's own share
(the context part of the projection, what encoders do once per history) is computed once and shared by its items.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from cvr.layers.mmoe import MMoE
from cvr.ranker import Ranker


@dataclasses.dataclass(frozen=True)
class Part:
    """A row of the table: which part, what of it, its trainable numbers, its FLOPs per item and, on top, once per list."""

    part: str
    name: str
    parameters: int
    flops_per_item: int = 0
    flops_per_list: int = 0


@dataclasses.dataclass(frozen=True)
class Cost:
    """Totals of a ranker: `flops_per_list` is what a list costs beside its items."""

    parameters: int
    dense_parameters: int
    embedding_bytes: int
    flops_per_item: int
    flops_per_list: int

    def per_item(self, items_per_list: float) -> float:
        """FLOPs of an item with its share of what its list costs once."""
        return self.flops_per_item + self.flops_per_list / items_per_list

    def describe(self) -> str:
        """Three lines for a terminal."""
        return (
            f"parameters       {self.parameters:>14,}   ({self.dense_parameters:,} dense)\n"
            f"FLOPs per item   {self.flops_per_item:>14,}   (+ {self.flops_per_list:,} per list)\n"
            f"embedding bytes  {self.embedding_bytes:>14,}"
        )


def cost_of(ranker: Ranker) -> Cost:
    """Totals of a built ranker: the sums of its parts."""
    parts = parts_of(ranker)
    tables = ranker.extraction.all_table_variables
    parameters = sum(part.parameters for part in parts)
    return Cost(
        parameters=parameters,
        dense_parameters=parameters - _size(tables),
        embedding_bytes=sum(_size([table]) * table.dtype.size for table in tables),
        flops_per_item=sum(part.flops_per_item for part in parts),
        flops_per_list=sum(part.flops_per_list for part in parts),
    )


def parts_of(ranker: Ranker) -> list[Part]:
    """Every part of a built ranker, in the order of the computation. Each trainable number is in exactly one."""
    return [*_extraction(ranker), *_projection(ranker), *backbone_parts(ranker.backbone), *_head(ranker.head, ranker.backbone.width)]


def _extraction(ranker: Ranker) -> Iterator[Part]:
    extraction = ranker.extraction
    for name, table in extraction.tables.items():
        shapes = " + ".join(f"{variable.shape[0]:,} x {variable.shape[1]}" for variable in table.tables)
        yield Part("embedding", f"{name}, {shapes}", _size(table.tables))
    yield Part("numericals", "", sum(_size(layer.trainable_variables) for layer in extraction.numericals.values()))
    for feature, events, encoder in extraction.sequences:
        assert feature.history is not None
        length = feature.history.length
        yield Part(
            "sequence",
            f"{feature.name} ({feature.encoder.name}, {length} events)",
            _size([*events.trainable_variables, *encoder.trainable_variables]),
            2 * encoder.item_multiply_adds(length),
            2 * (events.list_multiply_adds(length) + encoder.list_multiply_adds(length)),
        )


def _projection(ranker: Ranker) -> Iterator[Part]:
    context, item = ranker.projection.context_kernel, ranker.projection.item_kernel
    for name, kernel, others in (("context", context, []), ("items", item, [ranker.projection.bias])):
        products = 2 * _size([kernel])
        label = f"{name}, {kernel.shape[0]} -> {kernel.shape[1]}"
        yield Part("projection", label, _size([kernel, *others]), *((products, 0) if name == "items" else (0, products)))


def backbone_parts(backbone: tf.keras.layers.Layer) -> Iterator[Part]:
    """Of a built backbone: by kind of layer where it counts by kind, else in one row."""
    if not hasattr(backbone, "parts"):
        yield Part("backbone", "", _size(backbone.trainable_variables), 2 * backbone.multiply_adds())
        return
    yield from _rows("backbone", backbone.parts(), _parameters_by_kind(backbone))


def _head(head: MMoE, width: int) -> Iterator[Part]:
    """Of a head on a hidden representation of `width`."""
    tasks, experts, inner, tower = head.tasks, head.experts, head.expert_width, head.tower_width
    products = {
        "experts": width * experts * inner,
        "gates": width * tasks * experts,
        "mixture": tasks * experts * inner,
        "towers": tasks * (inner * tower + (tower or inner)),
    }
    found = _parameters_by_kind(head)
    parameters = {kind: found.pop(kind) for kind in ("experts", "gates")}
    yield from _rows("head", products, {**parameters, "towers": sum(found.values())})


def _rows(part: str, multiply_adds: Mapping[str, int], parameters: Mapping[str, int]) -> Iterator[Part]:
    for kind in dict.fromkeys([*multiply_adds, *parameters]):
        yield Part(part, kind, parameters.get(kind, 0), 2 * multiply_adds.get(kind, 0))


def _parameters_by_kind(layer: tf.keras.layers.Layer) -> dict[str, int]:
    """Trainable numbers by the name that follows the layer's own in a variable's path, without the numbers at its end."""
    found: collections.Counter[str] = collections.Counter()
    for variable in layer.trainable_variables:
        path = variable.name.partition(":")[0].split("/")
        found[re.sub(r"(_\d+)+$", "", path[path.index(layer.name) + 1])] += _size([variable])
    return dict(found)


def _size(variables: list[tf.Variable]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
