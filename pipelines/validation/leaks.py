"""How well each stored feature alone orders the items of a list by the labels, to find features that know the label.

Only item-level features can: a context feature has one value per list. Numbers count in both directions and by whether there is a value;
a history by how often it holds the item; ids by the rate of positives in their hashed bucket, learnt on one half of the lists and
measured on the other, which takes a second pass over (some) files.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cvr.records import Bag, Layout, ListColumns
from cvr.transforms import FIRST_ID, RESERVED_ROWS
from pipelines.validation.merging import Partial
from pipelines.validation.sketches import mix64
from pipelines.validation.within import Groups, measure

RATE_BUCKETS = 4096
"""Buckets of the rates of ids; the reserved ids have buckets of their own before them."""
PRIOR = 20.0
"""Impressions at the overall rate that are added to each bucket."""

_ROWS = RATE_BUCKETS + RESERVED_ROWS


def measure_scores(layout: Layout, columns: ListColumns) -> Partial:
    """`within.FIELDS` of item-level numericals and of histories that hold the item: {feature: {task: {variant: [6]}}}."""
    found: Partial = {}
    for name, scores in _scores(layout, columns):
        groups = Groups.of(scores, columns.lengths)
        found[name] = {task: measure(groups, columns.labels[:, place]) for place, task in enumerate(layout.tasks)}
    return found


def _scores(layout: Layout, columns: ListColumns) -> Iterator[tuple[str, np.ndarray]]:
    for place, name in enumerate(layout.item_num):
        yield name, columns.item_num[:, place]
    for name, history in columns.sequences.items():
        yield name, _occurrences(columns, Bag(history.item, history.lengths))


def _occurrences(columns: ListColumns, history: Bag) -> np.ndarray:
    """How often each item occurs in its list's history. float64 [N]."""
    lists = np.arange(len(columns.lengths)).astype(np.uint64)
    shown = mix64(mix64(np.repeat(lists, columns.lengths)) + columns.item.view(np.uint64))
    held = mix64(mix64(np.repeat(lists, history.lengths)) + history.values.view(np.uint64))
    distinct, counts = np.unique(held, return_counts=True)
    place = np.searchsorted(distinct, shown)
    hit = np.append(distinct, 0)[place] == shown
    return np.where(hit & (place < len(distinct)), np.append(counts, 0)[place], 0).astype(np.float64)


def id_features(layout: Layout) -> tuple[str, ...]:
    """Item-level features that hold ids."""
    return layout.item_cat + layout.item_ragged


def _bags(layout: Layout, columns: ListColumns) -> Iterator[tuple[str, Bag]]:
    for name in layout.item_cat:
        yield name, Bag(columns.cat[name], np.ones(len(columns.item), np.int64))
    for name in layout.item_ragged:
        yield name, columns.bags[name]


def _buckets(ids: np.ndarray) -> np.ndarray:
    hashed = RESERVED_ROWS + (mix64(ids) % np.uint64(RATE_BUCKETS)).astype(np.int64)
    return np.where(ids < FIRST_ID, ids, hashed)


def _halves(columns: ListColumns) -> np.ndarray:
    """Which half each list belongs to, 0 or 1, by its time and items. int64 [L]."""
    starts = np.cumsum(columns.lengths) - columns.lengths
    first = np.append(columns.item, 0)[starts]
    return (mix64(mix64(columns.time) + first.view(np.uint64)) & np.uint64(1)).astype(np.int64)


def learn_rates(layout: Layout, columns: ListColumns) -> Partial:
    """Impressions and positives by half, bucket and task: {feature: int64 [2, 4100, 1 + T]}; a bag counts once per id."""
    half = np.repeat(_halves(columns), columns.lengths)
    counted = np.concatenate([np.ones((len(columns.item), 1), np.int64), columns.labels], axis=1)
    found: Partial = {}
    for name, bag in _bags(layout, columns):
        place = np.repeat(half, bag.lengths) * _ROWS + _buckets(bag.values)
        weights = np.repeat(counted, bag.lengths, axis=0)
        sums = [np.bincount(place, weights=weight, minlength=2 * _ROWS) for weight in weights.T]
        found[name] = np.stack(sums, axis=1).astype(np.int64).reshape(2, _ROWS, -1)
    return found


def measure_rates(layout: Layout, columns: ListColumns, learnt: Partial) -> Partial:
    """`within.FIELDS` of the mean rate of an item's ids, by the rates of the other half's lists: {feature: {task: {"rate": [6]}}}."""
    other = np.repeat(1 - _halves(columns), columns.lengths)
    found: Partial = {}
    for name, bag in _bags(layout, columns):
        counts = learnt[name].astype(np.float64)
        base = counts[..., 1:].sum(1, keepdims=True) / np.maximum(counts[..., :1].sum(1, keepdims=True), 1)
        rates = (counts[..., 1:] + PRIOR * base) / (counts[..., :1] + PRIOR)
        chosen = rates[np.repeat(other, bag.lengths), _buckets(bag.values)]
        owner = np.repeat(np.arange(len(columns.item)), bag.lengths)
        found[name] = {}
        for place, task in enumerate(layout.tasks):
            total = np.bincount(owner, weights=chosen[:, place], minlength=len(columns.item))
            groups = Groups.of(total / np.maximum(bag.lengths, 1), columns.lengths)
            found[name][task] = {"rate": measure(groups, columns.labels[:, place], presence=False)["highest"]}
    return found
