"""How many values of each stored feature are there, missing, unseen or out of vocabulary, day by day."""

from __future__ import annotations

import datetime

import numpy as np

from cvr.records import Histories, ListColumns
from cvr.schema import Feature, FeatureSpec
from cvr.transforms import EMPTY, UNKNOWN, UNSEEN, UNSEEN_VALUE, hash_strings
from pipelines.counts import Counts
from pipelines.lists import DAY_MS

PRESENT, MISSING, UNSEEN_STATE, UNKNOWN_STATE = range(4)
STATES = ("present", "missing", "unseen", "unknown")


def _number_states(values: np.ndarray) -> np.ndarray:
    return np.where(values == UNSEEN_VALUE, UNSEEN_STATE, np.where(np.isfinite(values), PRESENT, MISSING))


def _id_states(ids: np.ndarray, feature: Feature) -> np.ndarray:
    states = np.select([ids == UNSEEN, ids == EMPTY, ids == UNKNOWN], [UNSEEN_STATE, MISSING, UNKNOWN_STATE], PRESENT)
    if not feature.vocabulary:
        return states
    known = np.isin(ids, hash_strings(list(feature.vocabulary)).numpy())
    return np.where((states == PRESENT) & ~known, UNKNOWN_STATE, states)


def _first_ids(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The first id of each bag, EMPTY for an empty one; a bag that stands for no value holds that one reserved id."""
    return np.append(ids, EMPTY)[np.where(lengths > 0, np.cumsum(lengths) - lengths, len(ids))]


def states_of(columns: ListColumns, spec: FeatureSpec) -> dict[str, np.ndarray]:
    """The state of every value of every stored feature: int64 [L] for features of level context, [N] otherwise."""
    states: dict[str, np.ndarray] = {}
    for level, matrix in (("context", columns.context_num), ("item", columns.item_num)):
        for place, feature in enumerate(spec.select(kind="numerical", level=level, stored=True)):
            states[feature.name] = _number_states(matrix[:, place])
    for feature in spec.select(stored=True):
        if feature.kind == "sequence":
            events: Histories = columns.sequences[feature.name]
            states[feature.name] = _id_states(_first_ids(events.item, events.lengths), feature)
        elif feature.ragged:
            bag = columns.bags[feature.name]
            states[feature.name] = _id_states(_first_ids(bag.values, bag.lengths), feature)
        elif feature.kind == "categorical":
            states[feature.name] = _id_states(columns.cat[feature.name], feature)
    return states


def of_columns(spec: FeatureSpec, columns: ListColumns, chosen: np.ndarray) -> Counts:
    """{day: {feature: {state: values}}} of the chosen lists (mask [L]); states without any value are left out."""
    days = columns.time // DAY_MS
    found: Counts = {}
    states = states_of(columns, spec)
    for day in np.unique(days[chosen]):
        lists = chosen & (days == day)
        rows = np.repeat(lists, columns.lengths)
        name = (datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day))).isoformat()
        found[name] = {}
        for feature, values in states.items():
            of_list = spec.features[feature].level == "context"
            counted = np.bincount(values[lists if of_list else rows], minlength=len(STATES))
            found[name][feature] = {state: int(n) for state, n in zip(STATES, counted, strict=True) if n}
    return found
