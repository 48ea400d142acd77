"""Seeded permutations of lists and of items: within each list, or across all lists of the sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from cvr.schema import FeatureSpec

KINDS = ("within", "across")


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """Where values come from: list q takes a context feature of list `lists[q]`, item i an item feature of item `items[i]`."""

    lists: np.ndarray
    items: np.ndarray

    def source(self, level: str) -> np.ndarray:
        """The permutation of a level: context or item."""
        return self.lists if level == "context" else self.items


def make_shuffle(kind: str, list_of_item: np.ndarray, seed: tuple[int, ...]) -> Shuffle:
    """A uniform permutation of a kind for items of the given lists, int `[I]`, ascending.

    within: items change places inside their list, lists stay. across: lists change places, and items do among all items of the sample.
    """
    source = np.random.default_rng(seed)
    count, lists = len(list_of_item), int(list_of_item[-1]) + 1
    if kind == "within":
        return Shuffle(np.arange(lists), np.lexsort((source.random(count), list_of_item)))
    return Shuffle(source.permutation(lists), source.permutation(count))


def moved(spec: FeatureSpec, names: Iterable[str], kind: str) -> frozenset[str]:
    """Those of the features that a shuffle moves: within lists nothing that a list has one value of."""
    return frozenset(name for name in names if kind == "across" or spec.features[name].level == "item")
