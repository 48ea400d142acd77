"""Search lists as Arrow tables, for inspection with pandas, DuckDB or Arrow itself.

Features keep their names; every column of ours begins with an underscore, which no feature's name does:

    _search_id string   _time timestamp[ms, UTC]   _item int64   _position int64   _popularity float
    _label_<task> int8, 0 or 1    _delay_<task> duration[ms], null without an engagement
    <name>           numerical: float, null where there is no value; categorical: int64; bag of ids: list<int64>; sequence:
                     list<struct<item: int64, action: dictionary<string>, age: float>>, most recent first, age in seconds, null if unseen
    _state_<name>    dictionary<string>: present, missing, unseen or unknown, for every feature
    _value_<name>    dictionary<string>: the value of a feature with a vocabulary, null where the state is not present

A missing and an unseen number are both null, so that means and plots need no filter, and the state tells them apart. Ids are never
null, since pandas turns an int64 column with nulls into floats, which cannot hold a hash: reserved ids stay in them, as in the records.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import tensorflow as tf

from cvr.records import Bag, Histories, Layout, ListColumns
from cvr.schema import Feature, FeatureSpec
from cvr.stored import Selection, StoredLists
from cvr.transforms import EMPTY, FIRST_ID, PAD, UNKNOWN, UNSEEN, UNSEEN_VALUE, rows_of_vocabulary

TableLevel = Literal["item", "list"]
STATES = ("present", "missing", "unseen", "unknown")
_PRESENT, _MISSING, _UNSEEN, _UNKNOWN = range(len(STATES))
_STATE_OF_RESERVED = np.zeros(FIRST_ID, np.int8)
_STATE_OF_RESERVED[[PAD, UNSEEN, EMPTY, UNKNOWN]] = [_MISSING, _UNSEEN, _MISSING, _UNKNOWN]

_Named = Iterator[tuple[str, str, pa.Array]]
"""(column, level, values)."""


def to_arrow(spec: FeatureSpec, columns: ListColumns, level: TableLevel = "item") -> pa.Table:
    """Lists as a table: one row per item, with what belongs to the list repeated, or one row per list, with the items' values as lists.

    The columns are those of this module's description, features in the spec's order; derived features are not stored.
    """
    lengths = columns.lengths.astype(np.int64)
    rows = pa.array(np.repeat(np.arange(len(lengths)), lengths))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    table: dict[str, pa.Array] = {}
    for name, own, values in _named(spec, columns):
        if own == "context" and level == "item":
            values = values.take(rows)
        elif own == "item" and level == "list":
            values = pa.ListArray.from_arrays(offsets, values)
        table[name] = values
    return pa.table(table)


def read_table(
    folder: str | Path,
    split: str,
    max_lists: int | None = None,
    search_ids: Collection[str] | None = None,
    days: Collection[str] | None = None,
    level: TableLevel = "item",
) -> pa.Table:
    """Published lists of a split, of either record format, as a table (`to_arrow`); all of them by default.

    Raises CvrError where the folder, split, a day or a search id is not there, or a file is broken.
    """
    stored = StoredLists(folder)
    parts = stored.read(Selection(split, days, search_ids, count=max_lists))
    return pa.concat_tables([to_arrow(stored.spec, part.columns, level) for part in parts])


def _named(spec: FeatureSpec, columns: ListColumns) -> _Named:
    yield from _list_columns(Layout.of(spec), columns)
    places = {name: place for names in (Layout.of(spec).context_num, Layout.of(spec).item_num) for place, name in enumerate(names)}
    for feature in spec.select(stored=True):
        name, level = feature.name, feature.level
        if feature.kind == "numerical":
            numbers = columns.context_num if level == "context" else columns.item_num
            parts = _numbers(numbers[:, places[name]])
        elif feature.kind == "sequence":
            parts = _histories(feature, columns.sequences[name])
        elif feature.ragged:
            parts = _bags(columns.bags[name])
        else:
            parts = _ids(columns.cat[name], feature)
        yield name, level, parts[0]
        yield f"_state_{name}", level, parts[1]
        if feature.vocabulary:
            yield f"_value_{name}", level, _value(columns.cat[name], feature)


def _list_columns(layout: Layout, columns: ListColumns) -> _Named:
    yield "_search_id", "context", pa.array(columns.search_id).cast(pa.string())
    yield "_time", "context", pa.array(columns.time, pa.int64()).cast(pa.timestamp("ms", "UTC"))
    yield "_item", "item", pa.array(columns.item, pa.int64())
    yield "_position", "item", pa.array(columns.position, pa.int64())
    for place, task in enumerate(layout.tasks):
        delay = columns.delay[:, place]
        yield f"_label_{task}", "item", pa.array(columns.labels[:, place].astype(np.int8))
        yield f"_delay_{task}", "item", pa.array(delay, pa.int64(), mask=delay < 0).cast(pa.duration("ms"))
    yield "_popularity", "item", pa.array(columns.popularity, pa.float32())


def _coded(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    """Names by their codes; null for a code that none has."""
    mask = (codes < 0) | (codes >= len(names))
    indices = pa.array(np.where(mask, 0, codes), pa.int32(), mask=mask)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _states(ids: np.ndarray) -> np.ndarray:
    return np.where(ids < FIRST_ID, _STATE_OF_RESERVED[np.minimum(ids, UNKNOWN)], _PRESENT)


def _lists(values: pa.Array, lengths: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=None if mask is None else pa.array(mask))


def _numbers(values: np.ndarray) -> tuple[pa.Array, pa.Array]:
    none = ~np.isfinite(values)
    states = np.where(values == UNSEEN_VALUE, _UNSEEN, np.where(none, _MISSING, _PRESENT))
    return pa.array(values, pa.float32(), mask=none), _coded(states, STATES)


def _ids(ids: np.ndarray, feature: Feature) -> tuple[pa.Array, pa.Array]:
    known = rows_of_vocabulary(tf.constant(ids), feature.vocabulary).numpy() if feature.vocabulary else ids
    return pa.array(ids, pa.int64()), _coded(_states(known), STATES)


def _value(ids: np.ndarray, feature: Feature) -> pa.Array:
    return _coded(rows_of_vocabulary(tf.constant(ids), feature.vocabulary).numpy() - FIRST_ID, feature.vocabulary)


def _bags(bag: Bag) -> tuple[pa.Array, pa.Array]:
    """A bag without a value holds one reserved id, or nothing at all."""
    starts = np.cumsum(bag.lengths) - bag.lengths
    only = np.append(bag.values, EMPTY)[np.where(bag.lengths > 0, starts, -1)]
    states = np.where(bag.lengths > 1, _PRESENT, _states(only))
    return _lists(pa.array(bag.values, pa.int64()), bag.lengths), _coded(states, STATES)


def _histories(feature: Feature, found: Histories) -> tuple[pa.Array, pa.Array]:
    assert feature.history is not None
    starts = np.cumsum(found.lengths) - found.lengths
    unseen = (found.lengths == 1) & (np.append(found.item, PAD)[starts] == UNSEEN)
    states = np.where(unseen, _UNSEEN, np.where(found.lengths == 0, _MISSING, _PRESENT))
    action = _coded(found.action - FIRST_ID, feature.history.events)
    events = pa.StructArray.from_arrays(
        [pa.array(found.item, pa.int64()), action, pa.array(found.age, pa.float32())], ["item", "action", "age"]
    )
    return _lists(events, found.lengths, unseen), _coded(states, STATES)
