"""Distributions of a file's features, and how many of their values are there."""

from __future__ import annotations

import numpy as np

from cvr.records import Bag, Histories, Layout, ListColumns
from cvr.schema import FeatureSpec
from cvr.transforms import EMPTY, UNSEEN, UNSEEN_VALUE
from pipelines.coverage import STATES, states_of
from pipelines.validation.merging import Partial
from pipelines.validation.sketches import IdSketch, NumberSketch

ITEM, POPULARITY = "@item", "@popularity"
"""Names of the record's own columns beside the features; no feature's name may begin with @."""


def profile(spec: FeatureSpec, layout: Layout, columns: ListColumns) -> Partial:
    """Sketches of all stored features (`numbers`, `ids`, `sizes` of bags and histories), of items and popularity, and the coverage."""
    numbers = numericals(layout, columns)
    ids = dict(columns.cat) | {name: bag.values for name, bag in columns.bags.items()}
    ids |= {name: found.item for name, found in columns.sequences.items()}
    sizes = {name: _bag_sizes(bag) for name, bag in columns.bags.items()}
    sizes |= {name: _history_sizes(found) for name, found in columns.sequences.items()}
    return {
        "numbers": {
            name: NumberSketch.of(value) for name, value in (numbers | {POPULARITY: columns.popularity}).items()
        },
        "ids": {name: IdSketch.of(value) for name, value in (ids | {ITEM: columns.item}).items()},
        "sizes": {name: NumberSketch.of(value) for name, value in sizes.items()},
        "coverage": {
            name: dict(zip(STATES, _count(state), strict=True)) for name, state in states_of(columns, spec).items()
        },
    }


def numericals(layout: Layout, columns: ListColumns) -> dict[str, np.ndarray]:
    """Values of each stored numerical: [L] of level context, [N] of level item."""
    context = {name: columns.context_num[:, place] for place, name in enumerate(layout.context_num)}
    return context | {name: columns.item_num[:, place] for place, name in enumerate(layout.item_num)}


def first_ids(bag: Bag) -> np.ndarray:
    """The first id of each bag, EMPTY for one without any. int64 [rows]."""
    starts = np.cumsum(bag.lengths) - bag.lengths
    return np.where(bag.lengths > 0, np.append(bag.values, EMPTY)[np.minimum(starts, len(bag.values))], EMPTY)


def _bag_sizes(bag: Bag) -> np.ndarray:
    """Real ids per bag: 0 where it is empty, -inf where unseen. float64 [rows]."""
    first = first_ids(bag)
    return np.where(first == UNSEEN, UNSEEN_VALUE, np.where(first == EMPTY, 0, bag.lengths))


def _history_sizes(found: Histories) -> np.ndarray:
    """Events per history, -inf where unseen. float64 [L]."""
    unseen = first_ids(Bag(found.action, found.lengths)) == UNSEEN
    return np.where(unseen, UNSEEN_VALUE, found.lengths)


def _count(states: np.ndarray) -> list[int]:
    return np.bincount(states, minlength=len(STATES)).tolist()
