"""What `tools.benchmarks.input` reads: lists of the reference spec, with lengths by one of two draws, as records of both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from cvr.elwc import encode_elwc
from cvr.records import Bag, Histories, Layout, ListColumns, encode, slice_lists
from cvr.schema import FeatureSpec
from cvr.transforms import FIRST_ID
from tools.benchmarks.reference_batch import HISTORY, LENGTH, NGRAMS, reference_spec

DRAWS = {"32": "32", "16-40": "mean 16, at most 40"}
"""Draws of list lengths: always 32, or 1 + Binomial(40 - 1, p) with p ~ Beta of mean (16 - 1) / (40 - 1): mean 16 exactly."""
FORMATS = ("lists", "elwc")
_MEAN, _LONGEST, _SPREAD_OF_BETA = 16, 40, 2.6
_NGRAM_RANGE = 2**31
_SPREAD = 4
_DAY = 86_400
_FIRST_TIME = 1_767_225_600_000
_ENCODED = 256


def spec() -> FeatureSpec:
    """The reference features; tables' sizes play no part in reading."""
    return reference_spec(1000, 8)


def draw_lengths(source: np.random.Generator, draw: str, lists: int) -> np.ndarray:
    """Items per list, int64 `[lists]`."""
    if draw == "32":
        return np.full(lists, LENGTH)
    share = (_MEAN - 1) / (_LONGEST - 1)
    chances = source.beta(_SPREAD_OF_BETA * share, _SPREAD_OF_BETA * (1 - share), lists)
    return 1 + source.binomial(_LONGEST - 1, chances)


def _bag(source: np.random.Generator, rows: int) -> Bag:
    """N-gram ids as `cvr.transforms.char_ngrams` gives them, 20 to 28 a text."""
    lengths = source.integers(NGRAMS - _SPREAD, NGRAMS + _SPREAD + 1, rows)
    return Bag(source.integers(FIRST_ID, _NGRAM_RANGE, int(lengths.sum())), lengths)


def _labels(source: np.random.Generator, lengths: np.ndarray, tasks: int) -> np.ndarray:
    """One engaged item a list and task."""
    total, ends = int(lengths.sum()), np.cumsum(lengths)
    labels = np.zeros((total, tasks), np.int64)
    for task in range(tasks):
        labels[ends - 1 - source.integers(0, lengths), task] = 1
    return labels


def content(lists: int, draw: str, seed: int) -> ListColumns:
    """Lists of random content: prices and counts with one digit after the point, hashed ids, histories of 50 events."""
    source, chosen = np.random.default_rng(seed), spec()
    layout, lengths = Layout.of(chosen), draw_lengths(source, draw, lists)
    total, events = int(lengths.sum()), lists * HISTORY
    labels = _labels(source, lengths, len(layout.tasks))
    item = source.integers(FIRST_ID, 2**62, total)
    ids = {name: lists for name in layout.context_cat} | {name: total for name in layout.item_cat}
    history = Histories(
        item=source.integers(FIRST_ID, 2**62, events),
        action=source.integers(FIRST_ID, FIRST_ID + 2, events),
        age=np.sort(source.integers(1, 90 * _DAY, (lists, HISTORY)), axis=1).ravel().astype(np.float32),
        lengths=np.full(lists, HISTORY),
    )
    return ListColumns(
        search_id=np.array([f"s{number:08d}" for number in range(lists)], object),
        time=_FIRST_TIME + 1000 * np.arange(lists),
        lengths=lengths,
        item=item,
        position=np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1,
        labels=labels,
        delay=np.where(labels > 0, source.integers(0, 1000 * _DAY, labels.shape), -1),
        popularity=source.integers(0, 1000, total).astype(np.float32),
        context_num=np.round(source.lognormal(2, 1, (lists, len(layout.context_num))), 1).astype(np.float32),
        item_num=np.round(source.lognormal(2, 1, (total, len(layout.item_num))), 1).astype(np.float32),
        cat={name: source.integers(FIRST_ID, 2**62, count) for name, count in ids.items()},
        bags={name: _bag(source, lists if name in layout.context_ragged else total) for name in layout.context_ragged + layout.item_ragged},
        sequences={name: history for name in layout.sequences},
    )


def file_of(folder: Path, draw: str, kind: str, zipped: bool) -> Path:
    """Where a file of a draw and format lies."""
    return folder / f"{draw}-{kind}.tfrecord{'.gz' if zipped else ''}"


def write(folder: Path, draw: str, columns: ListColumns) -> None:
    """The same lists in both formats, plain and as gzip."""
    chosen, lists = spec(), len(columns.lengths)
    for kind, encoder in zip(FORMATS, (encode, encode_elwc), strict=True):
        records = [
            record
            for begin in range(0, lists, _ENCODED)
            for record in encoder(chosen, slice_lists(chosen, columns, begin, min(begin + _ENCODED, lists)))
        ]
        for zipped in (False, True):
            with tf.io.TFRecordWriter(str(file_of(folder, draw, kind, zipped)), "GZIP" if zipped else None) as writer:
                for record in records:
                    writer.write(record)
