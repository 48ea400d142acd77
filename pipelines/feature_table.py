"""Values from a keyed, timed feature table for impressions, point in time: the newest that was known before each impression.

A feature table is a Parquet or JSONL file, or a folder of them, with key columns (raw ids or other columns of the impressions), `time`
(ms, when the value became known) and value columns. `join` reads it prepared, sorted and with hashed keys in one Arrow file, and gives a
batch of impressions the values of the last row of their key with row time < impression time - lag. Where there is none the value is
absent (unseen), and where that row holds null it is null (missing).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from cvr.transforms import EMPTY, PAD
from pipelines.batches import column, mix
from pipelines.settings import FeatureTable
from pipelines.values import absent_mask, as_integers, hash_texts

KEY, TIME = "#key", "time"


def hash_keys(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """One hash per row for its key columns; PAD where one of them is null, empty or not there. int64 [R]."""
    keys, known = np.zeros(len(table), np.int64), np.ones(len(table), bool)
    for name in names:
        if name not in table.column_names:
            return np.full(len(table), PAD, np.int64)
        part = hash_texts(table.column(name), name, PAD)
        known &= (part != PAD) & (part != EMPTY)
        keys = mix(keys, part)
    return np.where(known, keys, PAD)


class AsOf:
    """Answers which row of a table, sorted by key and time, was the last of a key before a time."""

    def __init__(self, keys: np.ndarray, times: np.ndarray) -> None:
        self._keys, places = np.unique(keys, return_inverse=True)
        self._times, ranks = np.unique(times, return_inverse=True)
        self._joint = places * (len(self._times) + 1) + ranks

    def rows_before(self, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The last row of each key with a time strictly before the given one, int64 [R]; -1 without any."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        low = place * (len(self._times) + 1)
        rows = np.searchsorted(self._joint, low + np.searchsorted(self._times, times, side="left"), side="left") - 1
        found = (self._keys[place] == keys) & (rows >= 0) & (self._joint[np.maximum(rows, 0)] >= low)
        return np.where(found, rows, -1)


@functools.lru_cache(maxsize=2)
def _load(path: str) -> tuple[pa.Table, AsOf]:
    """A prepared table, once per process."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        table = pa.ipc.open_stream(pa.py_buffer(file.read())).read_all().combine_chunks()
    return table, AsOf(column(table, KEY), column(table, TIME))


def join(impressions: pa.Table, asked: FeatureTable) -> pa.Table:
    """Raw impressions with the columns of a prepared table, each with the bool column that says where it is absent."""
    table, index = _load(asked.path)
    times, null, wrong = as_integers(impressions.column("time"), "time")
    rows = index.rows_before(hash_keys(impressions, asked.keys), times - asked.lag)
    absent = (rows < 0) | null | wrong
    places = pa.array(rows, mask=absent)
    for name in asked.columns:
        if name in impressions.column_names:
            impressions = impressions.drop_columns([name])
        impressions = impressions.append_column(name, table.column(name).take(places))
        impressions = impressions.append_column(absent_mask(name), pa.array(absent))
    return impressions
