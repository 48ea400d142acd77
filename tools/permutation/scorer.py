"""Average precision of a ranker on the sample, with some features shuffled."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from cvr.ranker import Ranker
from tools.permutation.columns import Extent
from tools.permutation.sample import Sample
from tools.permutation.shuffles import Shuffle

_LEVELS = ("context", "item")


class Scorer:
    """A ranker in two compiled functions, extraction and what comes after it, that every shuffle reuses.

    A shuffled stored feature takes its value from elsewhere before the extraction, so that features derived from it follow. A shuffled
    derived feature takes its columns of the extraction's output from those of the unshuffled sample. In a group of both kinds each has
    the values of the same other list or item, therefore.
    """

    def __init__(self, ranker: Ranker, sample: Sample) -> None:
        self._sample, self._place = sample, ranker.task_names.index(sample.task)
        self._extract = tf.function(ranker.extract, autograph=False, reduce_retracing=True)

        def score(context: tf.Tensor, items: tf.Tensor, list_index: tf.Tensor) -> tf.Tensor:
            return ranker.score(tf.gather(ranker.project_context(context), list_index), items)

        self._score = tf.function(score, autograph=False, reduce_retracing=True)
        self._base = [self._extract(batch) for batch in sample.batches]
        columns = ranker.extraction.columns(sample.batches[0])
        self._columns = {f.name: columns[f.name] for f in sample.spec.select(stored=False)}
        self._derived = {name: self._rows(*where) for name, where in self._columns.items()}

    def _rows(self, level: str, places: list[int]) -> np.ndarray:
        """Columns of the extraction's output for all lists or items of the sample."""
        parts = []
        for vectors, extent in zip(self._base, self._sample.extents, strict=True):
            found = extent.of(level)
            parts.append(vectors[_LEVELS.index(level)].numpy()[: found.stop - found.start, places])
        return np.concatenate(parts)

    def precision(self, names: Iterable[str] = (), shuffle: Shuffle | None = None) -> np.ndarray:
        """Average precision of each list `[Q]` while the features are shuffled together."""
        chosen = list(names) if shuffle is not None else []
        scores = []
        for number, batch in enumerate(self._sample.batches):
            context, items = self._vectors(number, chosen, shuffle) if shuffle is not None else self._base[number]
            extent = self._sample.extents[number].items
            scores.append(self._score(context, items, batch["list_index"]).numpy()[: extent.stop - extent.start, self._place])
        return self._sample.precision(np.concatenate(scores))

    def _vectors(self, number: int, names: list[str], shuffle: Shuffle) -> list[tf.Tensor]:
        """The extraction's output of a batch with the features shuffled."""
        extent, features = self._sample.extents[number], self._sample.spec.features
        batch = dict(self._sample.batches[number])
        stored = [name for name in names if features[name].stored]
        for name in stored:
            batch |= self._sample.columns.replace(batch, name, _rows_of(shuffle, extent, features[name].level))
        vectors = list(self._extract(batch) if stored else self._base[number])
        for name in (name for name in names if not features[name].stored):
            level, places = self._columns[name]
            place = _LEVELS.index(level)
            values = np.array(vectors[place])
            rows = self._derived[name][_rows_of(shuffle, extent, level)]
            values[: len(rows), places] = rows
            vectors[place] = tf.constant(values)
        return vectors


def _rows_of(shuffle: Shuffle, extent: Extent, level: str) -> np.ndarray:
    """Where a batch's lists or items take their values from."""
    return shuffle.source(level)[extent.of(level)]
