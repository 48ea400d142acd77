"""A ranker with known weights on random lists, and its importances by plain NumPy in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from cvr import records
from cvr.data import Batch, dummy_batch
from cvr.extraction import Extraction
from cvr.schema import FeatureSpec
from tests.support import random_columns, tiny_spec, write_lists

SPEC = """
dataset: planted
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  season: {kind: numerical, level: context, from: impression.season, transforms: [identity]}
  main: {kind: numerical, level: item, from: impression.main, transforms: [identity]}
  minor: {kind: numerical, level: item, from: impression.minor, transforms: [identity]}
  crossed: {kind: numerical, level: item, from: impression.crossed, transforms: [identity]}
  dead: {kind: numerical, level: item, from: impression.dead, transforms: [identity]}
  main_rank: {kind: numerical, level: item, derive: {op: list_rank, feature: main}, transforms: [identity]}
"""
WEIGHTS = {"main": 1.0, "minor": 0.3, "main_rank": 0.5}
"""Of the linear part; the other part is season x crossed."""


class Planted:
    """score = sum_f w_f x_f + product * season * crossed, on the columns of the real extraction."""

    task_names = ("purchase",)

    def __init__(self, spec: FeatureSpec, weights: dict[str, float], product: float) -> None:
        self.extraction = Extraction(spec)
        self._columns = {name: places[0] for name, (_, places) in self.extraction.columns(dummy_batch(spec)).items()}
        self._weights, self._product = weights, product

    def extract(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        return self.extraction(batch)

    def project_context(self, context: tf.Tensor) -> tf.Tensor:
        return context

    def score(self, context: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        linear = tf.add_n([weight * items[:, self._columns[name]] for name, weight in self._weights.items()])
        return (linear + self._product * context[:, self._columns["season"]] * items[:, self._columns["crossed"]])[:, None]


def values(columns: records.ListColumns) -> dict[str, np.ndarray]:
    """Features by name in float64, `[Q]` or `[I]`, with main_rank."""
    spec = tiny_spec(SPEC)
    layout = records.Layout.of(spec)
    found = {name: columns.item_num[:, place].astype(np.float64) for place, name in enumerate(layout.item_num)}
    return {"season": columns.context_num[:, 0].astype(np.float64), **found, "main_rank": ranks(found["main"], columns.lengths)}


def ranks(column: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(smaller + half of the other equal ones) / (items - 1), item by item."""
    out, start = [], 0
    for length in lengths:
        own = column[start : start + length]
        out += [(np.sum(own < x) + 0.5 * (np.sum(own == x) - 1)) / max(length - 1, 1) for x in own]
        start += length
    return np.array(out)


def utility(found: dict[str, np.ndarray], lengths: np.ndarray) -> np.ndarray:
    """The planted score of every item, float64 `[I]`."""
    linear = sum(weight * found[name] for name, weight in WEIGHTS.items())
    return linear + np.repeat(found["season"], lengths) * found["crossed"]


def average_precision(scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """List by list, item by item."""
    out, start = [], 0
    for length in lengths:
        order = np.argsort(-scores[start : start + length])
        hits = np.flatnonzero(labels[start : start + length][order]) + 1
        out.append(np.mean([(number + 1) / rank for number, rank in enumerate(hits)]))
        start += length
    return np.array(out)


def planted_lists(folder: Path, lists: int = 60) -> records.ListColumns:
    """Publishes lists of which the best item by utility and noise has the label, and gives them."""
    spec, source = tiny_spec(SPEC), np.random.default_rng(5)
    columns = random_columns(spec, lists, longest=9)
    columns.context_num[:] = source.choice([-1.5, -0.5, 0.5, 1.5], columns.context_num.shape)
    columns.item_num[:] = source.normal(size=columns.item_num.shape)
    noisy = utility(values(columns), columns.lengths) + 0.3 * source.gumbel(size=len(columns.item))
    starts = np.cumsum(columns.lengths) - columns.lengths
    best = [start + np.argmax(noisy[start : start + length]) for start, length in zip(starts, columns.lengths, strict=True)]
    columns.labels[:] = 0
    columns.labels[best] = 1
    columns.delay[:] = np.where(columns.labels > 0, 1000, -1)
    write_lists(folder, {"validation": [columns]}, SPEC)
    return columns
