"""Behaviour sequences of list records, with each event counted once however many lists' histories hold it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvr import records, transforms
from cvr.data import read_records
from cvr.reading import iterate
from cvr.schema import FeatureSpec

_READ_AT_ONCE = 4096
_SLACK = 1000
"""Milliseconds by which the times of one event may differ between lists, beside the rounding of its age."""
_AGE_BITS = 22
"""An age is a float32: two of one event differ by less than 2^-22 of it."""


@dataclasses.dataclass(frozen=True)
class Sequences:
    """L sequences of S events in all: `item`, `action` int64 [S], the most recent first; `target` bool [S], the events of a loss; `starts`
    int64 [L + 1]; `length` K, the most events of one; and of how many `lists` they are what is left."""

    item: np.ndarray
    action: np.ndarray
    target: np.ndarray
    starts: np.ndarray
    length: int
    lists: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def targets(self) -> int:
        """Events of a loss."""
        return int(self.target.sum())

    @functools.cached_property
    def catalogue(self) -> np.ndarray:
        """The distinct items, ascending int64."""
        return np.unique(self.item[self.item >= transforms.FIRST_ID])

    def batch(self, rows: np.ndarray, size: int) -> dict[str, np.ndarray]:
        """The sequences `rows`, at most `size`: `item`, `action` int64 and `target` bool, `[size, K]`, padded with 0 and False."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        source, row = np.repeat(self.starts[rows], lengths) + within, np.repeat(np.arange(len(rows)), lengths)
        found = {}
        for name in ("item", "action", "target"):
            values = getattr(self, name)
            found[name] = np.zeros((size, self.length), values.dtype)
            found[name][row, within] = values[source]
        return found


@dataclasses.dataclass(frozen=True)
class _Read:
    """Histories as the records hold them: `time`, `lengths` [L], `item`, `action`, `age` [S]."""

    time: np.ndarray
    lengths: np.ndarray
    item: np.ndarray
    action: np.ndarray
    age: np.ndarray


def read_sequences(spec: FeatureSpec, name: str, groups: Sequence[Sequence[str]]) -> list[Sequences]:
    """The sequence `name` of groups of record files, one `Sequences` per group; those without any target are left out.

    A customer's lists hold histories that overlap, and records do not say whose they are. So an event is a target in one list alone: the
    earliest that holds it behind the event before it, lists of an earlier group before all of a later one. Events of two lists are one
    where item, action, the item and action before, and the time agree (to a second, and the rounding of the age). The first event of a
    history has nothing before it and is no target; nor is one of a reserved item or action, such as that of an unseen history.

    Raises CvrError naming the file of a broken record.
    """
    parts = [_read(spec, name, files) for files in groups]
    group = np.repeat(np.arange(len(parts)), [len(part.lengths) for part in parts])
    joined = _Read(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(_Read)))
    target = first_sightings(joined.time, group, joined.lengths, joined.item, joined.action, joined.age)
    history = spec.features[name].history
    assert history is not None
    ends = np.cumsum([len(part.item) for part in parts])
    marks = np.split(target, ends[:-1])
    return [_kept(part, mark, history.length) for part, mark in zip(parts, marks, strict=True)]


def _read(spec: FeatureSpec, name: str, files: Sequence[str]) -> _Read:
    plain = tf.autograph.experimental.do_not_convert(lambda serialized: records.parse_histories(spec, name, serialized))
    dataset = read_records(files).batch(_READ_AT_ONCE).map(plain, num_parallel_calls=2, deterministic=True).prefetch(2)
    chunks = [{key: value.numpy() for key, value in chunk.items()} for chunk in iterate(dataset, spec, files)]
    return _Read(*(np.concatenate([chunk[field.name] for chunk in chunks]) for field in dataclasses.fields(_Read)))


def first_sightings(
    time: np.ndarray, group: np.ndarray, lengths: np.ndarray, item: np.ndarray, action: np.ndarray, age: np.ndarray
) -> np.ndarray:
    """Which of S events are targets, as `read_sequences` says; bool [S]. `time` (ms), `group`, `lengths` [L]; `age` in seconds [S]."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    follows = np.append(row[1:] == row[:-1], False) if len(row) else np.zeros(0, bool)
    places = np.flatnonzero(follows & (item >= transforms.FIRST_ID) & (action >= transforms.FIRST_ID))
    found = np.zeros(len(row), bool)
    if not len(places):
        return found
    past = 1000.0 * age[places].astype(np.float64)
    when = time[row[places]] - np.rint(past).astype(np.int64)
    key = _mixed(item[places], action[places], item[places + 1], action[places + 1])
    rank = np.empty(len(lengths), np.int64)
    rank[np.lexsort((time, group))] = np.arange(len(lengths))
    order = np.lexsort((when, key))
    key, when, ranks, slack = key[order], when[order], rank[row[places]][order], (_SLACK + past * 2.0**-_AGE_BITS)[order]
    begins = np.append(True, (key[1:] != key[:-1]) | (when[1:] - when[:-1] > slack[1:]))
    first = np.minimum.reduceat(ranks, np.flatnonzero(begins))[np.cumsum(begins) - 1]
    found[places[order]] = ranks == first
    return found


def _mixed(*parts: np.ndarray) -> np.ndarray:
    """A hash of several whole numbers, uint64."""
    hashed = np.zeros(len(parts[0]), np.uint64)
    for part in parts:
        hashed = (hashed ^ part.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(32)
    return hashed


def _kept(part: _Read, target: np.ndarray, length: int) -> Sequences:
    """The lists with a target."""
    ends = np.cumsum(part.lengths)
    sums = np.concatenate([[0], np.cumsum(target)])
    keep = sums[ends] > sums[ends - part.lengths]
    events = np.repeat(keep, part.lengths)
    starts = np.concatenate([[0], np.cumsum(part.lengths[keep])])
    return Sequences(part.item[events], part.action[events], target[events], starts, length, len(part.lengths))
