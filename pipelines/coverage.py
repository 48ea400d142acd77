"""How many values of each stored feature are there, missing, unseen or out of vocabulary, day by day."""

from __future__ import annotations

import datetime

import numpy as np

from cvr.records import Bag, Histories, ListColumns
from cvr.schema import Feature, FeatureSpec
from cvr.transforms import EMPTY, FIRST_ID, UNKNOWN, UNSEEN, UNSEEN_VALUE, hash_strings
from pipelines.counts import Counts
from pipelines.settings import DAY_MS

PRESENT, MISSING, UNSEEN_STATE, UNKNOWN_STATE = range(4)
_STATE_OF_ID = np.full(FIRST_ID + 1, PRESENT)
_STATE_OF_ID[[UNSEEN, EMPTY, UNKNOWN]] = UNSEEN_STATE, MISSING, UNKNOWN_STATE
STATES = ("present", "missing", "unseen", "unknown")


def _number_states(values: np.ndarray) -> np.ndarray:
    return np.where(values == UNSEEN_VALUE, UNSEEN_STATE, np.where(np.isfinite(values), PRESENT, MISSING))


def _id_states(ids: np.ndarray, feature: Feature) -> np.ndarray:
    states = _STATE_OF_ID[np.minimum(ids, FIRST_ID)]
    if not feature.vocabulary:
        return states
    known = np.isin(ids, hash_strings(list(feature.vocabulary)).numpy())
    return np.where((states == PRESENT) & ~known, UNKNOWN_STATE, states)


def states_of(columns: ListColumns, spec: FeatureSpec) -> dict[str, np.ndarray]:
    """The state of every value of every stored feature: int64 [L] for features of level context, [N] otherwise."""
    states: dict[str, np.ndarray] = {}
    for level, matrix in (("context", columns.context_num), ("item", columns.item_num)):
        for place, feature in enumerate(spec.select(kind="numerical", level=level, stored=True)):
            states[feature.name] = _number_states(matrix[:, place])
    for feature in spec.select(stored=True):
        if feature.kind == "sequence":
            events: Histories = columns.sequences[feature.name]
            states[feature.name] = _id_states(Bag(events.item, events.lengths).firsts(EMPTY), feature)
        elif feature.ragged:
            states[feature.name] = _id_states(columns.bags[feature.name].firsts(EMPTY), feature)
        elif feature.kind == "categorical":
            states[feature.name] = _id_states(columns.cat[feature.name], feature)
    return states


def of_columns(spec: FeatureSpec, columns: ListColumns, chosen: np.ndarray) -> Counts:
    """{day: {feature: {state: values}}} of the chosen lists (mask [L]); states without any value are left out."""
    days, day = np.unique(columns.time[chosen] // DAY_MS, return_inverse=True)
    names = [(datetime.date(1970, 1, 1) + datetime.timedelta(days=int(number))).isoformat() for number in days]
    found: Counts = {name: {} for name in names}
    rows = np.repeat(chosen, columns.lengths)
    day_of_row = np.repeat(day, columns.lengths[chosen])
    for feature, states in states_of(columns, spec).items():
        of_list = spec.features[feature].level == "context"
        place = (day if of_list else day_of_row) * len(STATES) + (states[chosen] if of_list else states[rows])
        counted = np.bincount(place, minlength=len(days) * len(STATES)).reshape(-1, len(STATES))
        for name, numbers in zip(names, counted, strict=True):
            found[name][feature] = {state: int(n) for state, n in zip(STATES, numbers, strict=True) if n}
    return found
