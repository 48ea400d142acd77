"""What a ranker knows of the training lists before it is trained: statistics of numerical features, and how often table rows are read.

Statistics come from the manifest for stored features and from a pass over the data for derived ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvr.data import Batch, Budget, batches
from cvr.extraction import Extraction
from cvr.layers.numerical import Statistics
from cvr.manifest import Manifest, Moments
from cvr.reading import iterate
from cvr.schema import FeatureSpec


def stored_statistics(spec: FeatureSpec, manifest: Manifest, splits: Sequence[str]) -> dict[str, Statistics]:
    """Training-split statistics of stored numericals, merged over the splits that are trained on."""
    result: dict[str, Statistics] = {}
    for feature in spec.select(kind="numerical", stored=True):
        moments = Moments()
        for name in splits:
            moments = moments.merge(manifest.split(name).statistics.get(feature.name, Moments()))
        result[feature.name] = (*moments.mean_std(), *moments.mean_std(logarithmic=True))
    return result


def derived_statistics(extraction: Extraction, files: Sequence[str], budget: Budget) -> dict[str, Statistics]:
    """Statistics of the derived numericals over all lists of the files: exact sums in float64.

    Raises CvrError naming a file and record that cannot be read.
    """
    names = {
        level: [f.name for f in extraction.spec.select(kind="numerical", level=level, stored=False)] for level in ("context", "item")
    }
    levels = [level for level, found in names.items() if found]
    if not levels:
        return {}
    dataset = batches(extraction.spec, files, budget)

    @tf.function(autograph=False, input_signature=[dataset.element_spec])
    def sums(batch: Batch) -> list[tf.Tensor]:
        return [_sums(extraction, batch, level, len(names[level])) for level in levels]

    totals: list[np.ndarray | float] = [0.0] * len(levels)
    for batch in iterate(dataset, extraction.spec, files):
        totals = [total + part.numpy() for total, part in zip(totals, sums(batch), strict=True)]
    return {
        name: _mean_std(np.asarray(total)[:, place])
        for level, total in zip(levels, totals, strict=True)
        for place, name in enumerate(names[level])
    }


def row_counts(extraction: Extraction, files: Sequence[str], budget: Budget) -> dict[str, np.ndarray]:
    """How often one pass over the files reads each row of each table with `shrinkage`: {table: int64 [buckets + 4]}.

    Raises CvrError naming a file and record that cannot be read.
    """
    tables = extraction.shrunk_tables
    if not tables:
        return {}
    dataset = batches(extraction.spec, files, budget)
    read = tf.function(extraction.rows_read, autograph=False, input_signature=[dataset.element_spec])
    counts = {name: np.zeros(table.counts.shape[0], np.int64) for name, table in tables.items()}
    for batch in iterate(dataset, extraction.spec, files):
        for name, rows in read(batch).items():
            np.add.at(counts[name], rows.numpy(), 1)
    return counts


def _sums(extraction: Extraction, batch: Batch, level: str, count: int) -> tf.Tensor:
    """float64 [5, C]: number, sum, sum of squares, sum and sum of squares of the signed log, of finite values of real rows."""
    values = extraction.raw_numericals(batch, level)[:, -count:]
    real = batch["item_mask"] > 0 if level == "item" else batch["list_size"] > 0
    used = tf.math.is_finite(values) & real[:, None]
    exact = tf.cast(tf.where(used, values, 0.0), tf.float64)
    logs = tf.sign(exact) * tf.math.log1p(tf.abs(exact))
    parts = [tf.cast(used, tf.float64), exact, exact**2, logs, logs**2]
    return tf.stack([tf.reduce_sum(part, axis=0) for part in parts])


def _mean_std(column: np.ndarray) -> Statistics:
    count, total, squares, log_total, log_squares = (float(v) for v in column)
    moments = Moments(
        count=int(count), total=total, total_squares=squares, log_total=log_total, log_total_squares=log_squares
    )
    return (*moments.mean_std(), *moments.mean_std(logarithmic=True))
