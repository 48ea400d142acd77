"""Stored features of sampled lists as rows that can be put elsewhere, and batches with some of them replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from cvr.data import Batch
from cvr.records import Bag, Layout
from cvr.schema import Feature, FeatureSpec

PARTS = ("item", "action", "age")
Rows = np.ndarray | Bag | tuple[np.ndarray, ...]
"""A value per list or item: numbers or ids `[R]`, a bag of ids, or a history's parts `[R, K]`."""


@dataclasses.dataclass(frozen=True)
class Extent:
    """Where a batch's real lists and items stand among those of the sample."""

    lists: slice
    items: slice

    def of(self, level: str) -> slice:
        """The rows of a level: context or item."""
        return self.lists if level == "context" else self.items


def extents(batches: Iterable[Batch]) -> list[Extent]:
    """The extent of each batch, one after the other."""
    found, lists, items = [], 0, 0
    for batch in batches:
        sizes = batch["list_size"].numpy()
        end = lists + int((sizes > 0).sum()), items + int(sizes.sum())
        found.append(Extent(slice(lists, end[0]), slice(items, end[1])))
        lists, items = end
    return found


class Columns:
    """The values of every stored feature of the sample, each a row per list or item."""

    def __init__(self, spec: FeatureSpec, batches: Sequence[Batch], places: Sequence[Extent]) -> None:
        self._spec, self._layout = spec, Layout.of(spec)
        stored = spec.select(stored=True)
        self._rows = {f.name: _joined([self._read(f, b, e) for b, e in zip(batches, places, strict=True)]) for f in stored}

    def _matrix(self, feature: Feature) -> tuple[str, int]:
        """Key and column of a numerical feature in a batch."""
        names = self._layout.context_num if feature.level == "context" else self._layout.item_num
        return f"{feature.level}_num", names.index(feature.name)

    def _read(self, feature: Feature, batch: Batch, extent: Extent) -> Rows:
        found = extent.of(feature.level)
        count = found.stop - found.start
        if feature.kind == "numerical":
            key, column = self._matrix(feature)
            return batch[key].numpy()[:count, column]
        if feature.kind == "sequence":
            return tuple(batch[f"seq/{feature.name}/{part}"].numpy()[:count] for part in PARTS)
        if feature.ragged:
            rows = batch[f"ragged/{feature.name}/rows"].numpy()
            return Bag(batch[f"ragged/{feature.name}/values"].numpy(), np.bincount(rows, minlength=count))
        return batch[f"cat/{feature.name}"].numpy()[:count]

    def replace(self, batch: Batch, name: str, rows: np.ndarray) -> Batch:
        """The parts of a batch in which its first lists or items have the values of these `rows` of the sample, int `[R]`."""
        feature, values = self._spec.features[name], self._rows[name]
        if isinstance(values, Bag):
            taken = take(values, rows)
            numbers = np.repeat(np.arange(len(rows), dtype=np.int32), taken.lengths)
            return {f"ragged/{name}/values": tf.constant(taken.values), f"ragged/{name}/rows": tf.constant(numbers)}
        if isinstance(values, tuple):
            keys = [f"seq/{name}/{part}" for part in PARTS]
            return {key: _written(batch[key], part[rows]) for key, part in zip(keys, values, strict=True)}
        if feature.kind == "categorical":
            return {f"cat/{name}": _written(batch[f"cat/{name}"], values[rows])}
        key, column = self._matrix(feature)
        return {key: _written(batch[key], values[rows], column)}


def take(bag: Bag, rows: np.ndarray) -> Bag:
    """The bags with numbers `rows`."""
    lengths = bag.lengths[rows]
    ends = np.cumsum(lengths)
    starts = (np.cumsum(bag.lengths) - bag.lengths)[rows]
    return Bag(bag.values[np.repeat(starts - ends + lengths, lengths) + np.arange(lengths.sum())], lengths)


def _written(tensor: tf.Tensor, values: np.ndarray, column: int | None = None) -> tf.Tensor:
    """A tensor whose first rows, or a column of them, are `values`; padding stays as it is."""
    copy = np.array(tensor)
    if column is None:
        copy[: len(values)] = values
    else:
        copy[: len(values), column] = values
    return tf.constant(copy)


def _joined(parts: Sequence[Rows]) -> Rows:
    if isinstance(parts[0], Bag):
        bags = [part for part in parts if isinstance(part, Bag)]
        return Bag(np.concatenate([bag.values for bag in bags]), np.concatenate([bag.lengths for bag in bags]))
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
