"""Slices of lists: by length, time, a context feature, or how frequent a feature's value was in the training lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.schema import Feature
from cvr.tables import read_table

OWN = ("items", "time", "positives")
"""Slices that an evaluation itself tells."""
FREQUENCY = "frequency:"


@dataclasses.dataclass(frozen=True)
class Slicing:
    """`labels` in order, and each list's place among them, int `[Q]`."""

    name: str
    labels: tuple[str, ...]
    codes: np.ndarray


def by_value(name: str, values: np.ndarray, bins: int, states: np.ndarray | None = None) -> Slicing:
    """About equally many lists in each of at most `bins` ranges of a number or a time (ms), never one value in two ranges.

    Lists without a value are slices of their own, after their `states` (missing or unseen).
    """
    known = np.isfinite(values.astype(np.float64))
    chosen, counts = np.unique(values[known], return_counts=True)
    places = _ranges(counts, bins) if len(chosen) else np.zeros(0, np.int64)
    labels = [_range_label(name, chosen[places == place]) for place in range(int(places.max(initial=-1)) + 1)]
    codes = np.full(len(values), -1)
    codes[known] = places[np.searchsorted(chosen, values[known])]
    without = np.full(len(values), "missing", object) if states is None else states
    for state in sorted(set(without[~known])):
        codes[~known & (without == state)] = len(labels)
        labels.append(str(state))
    return Slicing(name, tuple(labels), codes)


def _ranges(counts: np.ndarray, bins: int) -> np.ndarray:
    """Range of each distinct value: a new one begins where the mean size is nearer without the next value than with it."""
    target, places, filled, place = counts.sum() / bins, [], 0, 0
    for count in counts:
        if filled and place < bins - 1 and filled + count - target > target - filled:
            place, filled = place + 1, 0
        filled += count
        places.append(place)
    return np.array(places)


def _range_label(name: str, values: np.ndarray) -> str:
    ends = [values.min(), values.max()] if len(values) > 1 else [values[0]]
    if name == "time":
        return " to ".join(pd.Timestamp(int(end), unit="ms").strftime("%m-%d %H:%M") for end in ends)
    return " to ".join(f"{end:.4g}" for end in ends)


def by_category(name: str, values: np.ndarray, bins: int) -> Slicing:
    """The `bins` most frequent values, the most frequent first, and `other`."""
    found, counts = np.unique(values.astype(str), return_counts=True)
    top = found[np.argsort(-counts, kind="stable")][:bins]
    codes = np.full(len(values), len(top))
    for place, value in enumerate(top):
        codes[values.astype(str) == value] = place
    return Slicing(name, (*top, "other") if len(found) > len(top) else tuple(top), codes)


def by_frequency(name: str, values: np.ndarray, train: np.ndarray) -> Slicing:
    """By the number n of training lists with the value: head, torso, tail are thirds of the training lists, most frequent values first.

    A value belongs to the third in which its lists begin; `new` is a value that no training list has.
    """
    counts = pd.Series(train).value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
    before = counts.cumsum() - counts
    thirds = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    codes = thirds.reindex(values).fillna(3).to_numpy(np.int64)
    sizes = [counts[thirds == third] for third in range(3)]
    named = zip(("head", "torso", "tail"), sizes, strict=True)
    labels = [f"{third} (n {size.min()} to {size.max()})" if len(size) else third for third, size in named]
    return Slicing(f"{FREQUENCY}{name}", (*labels, "new"), codes)


class FeatureSlices:
    """Slices by context features, read from a folder of lists.

    Args:
      folder: the lists. Raises CvrError unless they are the data `data` that was evaluated.
      split: the split that was evaluated; train: the splits that frequencies are counted in.
    """

    def __init__(self, folder: str | Path, split: str, train: list[str], data: str) -> None:
        manifest = load_manifest(folder, ("lists", "elwc"))
        if manifest.data_fingerprint() != data:
            raise CvrError(f"--lists={folder} holds data {manifest.data_fingerprint()}, and evaluated was {data}; give the lists of that")
        self._folder, self._split, self._train, self._spec = folder, split, train, manifest.spec()
        self._tables: dict[str, pd.DataFrame] = {}

    def _column(self, split: str, column: str) -> pd.Series:
        if split not in self._tables:
            table = read_table(self._folder, split, level="list")
            context = [f.name for f in self._spec.select(level="context", stored=True)]
            kept = ["_search_id", *(c for name in context for c in (name, f"_state_{name}", f"_value_{name}") if c in table.column_names)]
            self._tables[split] = table.select(kept).to_pandas().set_index("_search_id")
        return self._tables[split][column]

    def slicing(self, name: str, search_id: pd.Series, bins: int) -> Slicing:
        """Slices by a context feature, or by `frequency:<feature>`. Raises CvrError for a feature that cannot be sliced by."""
        feature = self._feature(name.removeprefix(FREQUENCY), name.startswith(FREQUENCY))

        def values(column: str) -> np.ndarray:
            return self._column(self._split, column).loc[search_id].to_numpy()

        if name.startswith(FREQUENCY):
            train = np.concatenate([self._column(split, feature.name).to_numpy() for split in self._train])
            return by_frequency(feature.name, values(feature.name), train)
        states = values(f"_state_{feature.name}").astype(object)
        if feature.kind == "numerical":
            return by_value(name, values(name).astype(np.float64), bins, states)
        if feature.kind == "sequence":
            events = np.array([np.nan if history is None else len(history) for history in values(name)], np.float64)
            return by_value(f"{name} (events)", events, bins, states)
        there = values(f"_value_{name}" if feature.vocabulary else name)
        return by_category(name, np.where(states == "present", there, states), bins)

    def _feature(self, name: str, frequency: bool) -> Feature:
        able = [
            f.name
            for f in self._spec.select(level="context", stored=True)
            if not f.ragged and (f.kind == "categorical" if frequency else True)
        ]
        if name not in able:
            kind = "categorical with one value" if frequency else "stored, with one value or a sequence"
            raise CvrError(f"--slices: {name!r} is no context feature that is {kind}; there are {', '.join(able) or 'none'}")
        return self._spec.features[name]
