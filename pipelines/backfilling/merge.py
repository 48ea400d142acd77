"""Columns of published lists with some features replaced: finding a list's twin in another set of lists, and taking values from it.

The columns of a feature are one array (numericals, categoricals), a `Bag` or `Histories`; `choose` treats all of them alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvr.records import Bag, Histories, Layout, ListColumns
from cvr.schema import Feature, FeatureSpec
from cvr.transforms import UNSEEN, UNSEEN_VALUE

Values = np.ndarray | Bag | Histories
NONE = -1


def unseen_values(feature: Feature, rows: int) -> Values:
    """The values of a feature that does not exist yet, for that many lists or items."""
    ids, ones = np.full(rows, UNSEEN, np.int64), np.ones(rows, np.int64)
    if feature.kind == "numerical":
        return np.full(rows, UNSEEN_VALUE, np.float32)
    if feature.kind == "sequence":
        return Histories(ids, ids, np.zeros(rows, np.float32), ones)
    return Bag(ids, ones) if feature.ragged else ids


def values_of(layout: Layout, columns: ListColumns, feature: Feature) -> Values:
    """A stored feature's values, one per list or per item."""
    if feature.kind == "sequence":
        return columns.sequences[feature.name]
    if feature.ragged:
        return columns.bags[feature.name]
    if feature.kind == "categorical":
        return columns.cat[feature.name]
    if feature.level == "context":
        return columns.context_num[:, layout.context_num.index(feature.name)]
    return columns.item_num[:, layout.item_num.index(feature.name)]


def _flat_rows(lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Places of the values of the given rows among all values, row after row; `lengths` are those of all rows."""
    taken = lengths[rows]
    starts = (np.cumsum(lengths) - lengths)[rows]
    within = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
    return np.repeat(starts, taken) + within


def _parts(values: Values) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
    """The arrays that hold values, and the lengths that cut them into rows (None: one value per row)."""
    if isinstance(values, Bag):
        return (values.values,), values.lengths
    if isinstance(values, Histories):
        return (values.item, values.action, values.age), values.lengths
    return (values,), None


def choose(first: Values, second: Values, rows: np.ndarray) -> Values:
    """Values of the kind of `first`: in each row r that of `second` in row `rows[r]`, or where that is -1 its own."""
    (own, lengths), (other, other_lengths) = _parts(first), _parts(second)
    places = np.where(rows >= 0, rows + (len(own[0]) if lengths is None else len(lengths)), np.arange(len(rows)))
    if lengths is None or other_lengths is None:
        return np.concatenate([own[0], other[0]])[places]
    both = np.concatenate([lengths, other_lengths])
    flat = _flat_rows(both, places)
    parts = [np.concatenate(pair)[flat] for pair in zip(own, other, strict=True)]
    if isinstance(first, Bag):
        return Bag(parts[0], both[places])
    item, action, age = parts
    return Histories(item, action, age, both[places])


def with_values(spec: FeatureSpec, columns: ListColumns, values: dict[str, Any]) -> ListColumns:
    """The columns of a spec's lists, with these features' values (all stored ones)."""
    layout = Layout.of(spec)

    def matrix(names: Sequence[str], rows: int) -> np.ndarray:
        found = [values[name] for name in names]
        return np.stack(found, axis=1).astype(np.float32) if found else np.zeros((rows, 0), np.float32)

    stored = spec.select(stored=True)
    return dataclasses.replace(
        columns,
        context_num=matrix(layout.context_num, len(columns.lengths)),
        item_num=matrix(layout.item_num, len(columns.item)),
        cat={f.name: values[f.name] for f in stored if f.kind == "categorical" and not f.ragged},
        bags={f.name: values[f.name] for f in stored if f.ragged},
        sequences={f.name: values[f.name] for f in stored if f.kind == "sequence"},
    )


def _rows(feature: Feature, columns: ListColumns) -> int:
    return len(columns.lengths) if feature.level == "context" else len(columns.item)


def relayout(old: FeatureSpec, new: FeatureSpec, columns: ListColumns) -> ListColumns:
    """Lists of one spec as lists of another: features that only the new one has are unseen."""
    layout, have = Layout.of(old), {feature.name for feature in old.select(stored=True)}
    values = {
        f.name: values_of(layout, columns, f) if f.name in have else unseen_values(f, _rows(f, columns))
        for f in new.select(stored=True)
    }
    return with_values(new, columns, values)


def _codes(columns: ListColumns) -> np.ndarray:
    return np.repeat(np.arange(len(columns.lengths)), columns.lengths)


def _same_items(lists: np.ndarray, old: ListColumns, new: ListColumns) -> np.ndarray:
    """For each item of `old` the row in `new` of the same item and position in the list's twin, or -1. int64 [N]."""
    wanted = lists[_codes(old)]
    count = len(new.item)
    keys = [np.concatenate(pair) for pair in ((_codes(new), wanted), (new.position, old.position), (new.item, old.item))]
    side = np.repeat([0, 1], [count, len(wanted)])
    order = np.lexsort((side, *reversed(keys)))
    before, this = order[:-1], order[1:]
    twins = (side[before] == 0) & (side[this] == 1) & np.logical_and.reduce([key[before] == key[this] for key in keys])
    found = np.full(len(wanted), NONE, np.int64)
    found[this[twins] - count] = before[twins]
    return found


def match(old: ListColumns, new: ListColumns, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(for each list of `old` its twin in `new`, for each item its twin), -1 without one. int64 [L], [N].

    A twin has the same search id and time, and all items of the list at their positions (it may hold more). Only the lists of the mask
    `wanted` [L] are looked for.
    """
    if not len(new.lengths) or not wanted.any():
        return np.full(len(old.lengths), NONE, np.int64), np.full(len(old.item), NONE, np.int64)
    ids = [pa.array(side.search_id, pa.large_binary()) for side in (old, new)]
    lists = pc.index_in(ids[0], value_set=ids[1]).fill_null(NONE).to_numpy(zero_copy_only=False).astype(np.int64)
    lists = np.where(wanted & (new.time[np.maximum(lists, 0)] == old.time), lists, NONE)
    items = _same_items(lists, old, new)
    whole = np.logical_and.reduceat(items >= 0, np.cumsum(old.lengths) - old.lengths)
    return np.where(whole, lists, NONE), np.where(np.repeat(whole, old.lengths), items, NONE)


def fill(
    spec: FeatureSpec, columns: ListColumns, features: Sequence[str], other: tuple[FeatureSpec, ListColumns], wanted: np.ndarray
) -> tuple[ListColumns, np.ndarray]:
    """Takes features of the wanted lists from `other` lists of another spec; gives the columns and the mask of lists still without."""
    lists, items = match(columns, other[1], wanted)
    layouts = Layout.of(spec), Layout.of(other[0])
    values = {f.name: values_of(layouts[0], columns, f) for f in spec.select(stored=True)}
    for name in features:
        feature = spec.features[name]
        rows = lists if feature.level == "context" else items
        values[name] = choose(values[name], values_of(layouts[1], other[1], other[0].features[name]), rows)
    return with_values(spec, columns, values), wanted & (lists < 0)
