"""The named inputs of a raw ranking request, derived from the feature spec: one request is one search with n candidate items.

    item_id      string  [n]  the candidates                 item_offset  int32 [n]  their display order before ranking (see below)
    <feature>    float32 or string, [1] at level context and [n] at level item: every stored feature but those read from item_id
    <history>.item_id  string [k],  <history>.action  string [k] (event names),  <history>.age  float32 [k] (seconds), most recent first

Missing and unseen differ (ARCHITECTURE decision 6). Missing (null where the feature exists): NaN, or the empty string. Unseen (the feature
is not part of this request): -inf, or the one-character string `UNSEEN_TEXT`; an unseen history is one event whose item_id is
`UNSEEN_TEXT`, while a history of zero events is a customer who has done nothing.

`item_offset` is the place at which each item was displayed, or would be, before this ranking: any numbers, only their order counts, ties
keep the order of the rows. Features that depend on the display order use it and never the row number, so rows may come in any order.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import tensorflow as tf

from cvr.errors import CvrError
from cvr.schema import Feature, FeatureSpec

UNSEEN_TEXT = "\x00"
"""What a string input holds when its feature is not part of the request."""

ITEM_ID = "item_id"
ITEM_OFFSET = "item_offset"
_ITEM_ID_COLUMN = "impression.item_id"
HISTORY_PARTS: dict[str, tf.DType] = {"item_id": tf.string, "action": tf.string, "age": tf.float32}

Level = Literal["context", "item", "history"]


@dataclasses.dataclass(frozen=True)
class RequestInput:
    """One named tensor of a request; `level` says which length it has: 1, the number of items, or that of its history."""

    name: str
    dtype: tf.DType
    level: Level
    meaning: str

    def tensor_spec(self) -> tf.TensorSpec:
        """Shape [1] at level context, [None] otherwise."""
        return tf.TensorSpec([1 if self.level == "context" else None], self.dtype, name=self.name)


def takes_item_id(feature: Feature) -> bool:
    """Whether a feature's value is the item's id, so that it needs no input of its own."""
    return feature.column == _ITEM_ID_COLUMN and feature.kind == "categorical" and not feature.ragged


def request_inputs(spec: FeatureSpec) -> tuple[RequestInput, ...]:
    """The inputs of a request under a spec, in the spec's order. Raises CvrError where a feature's name is taken."""
    inputs = [
        RequestInput(ITEM_ID, tf.string, "item", "the candidate's id"),
        RequestInput(ITEM_OFFSET, tf.int32, "item", "display order before ranking; only the order of the numbers counts"),
    ]
    taken = {entry.name for entry in inputs}
    for feature in spec.select(stored=True):
        if feature.history is not None:
            inputs += [_history_input(feature, part) for part in HISTORY_PARTS]
        elif not (feature.level == "item" and takes_item_id(feature)):
            if feature.name in taken:
                raise CvrError(
                    f"features.{feature.name}: the name is taken by an input of every request; rename the feature in the spec"
                )
            inputs.append(_feature_input(feature))
    return tuple(inputs)


def _feature_input(feature: Feature) -> RequestInput:
    dtype = tf.float32 if feature.kind == "numerical" else tf.string
    meaning: str = feature.kind
    if feature.column is not None:
        meaning += f", column {feature.column}"
    if feature.aggregate is not None:
        per = f" per {feature.aggregate.per}" if feature.aggregate.per else ""
        meaning += f", {feature.aggregate.event}{per} by {' and '.join(feature.aggregate.by)} up to the request"
    if feature.separator is not None:
        meaning += f", values joined by {feature.separator!r}"
    return RequestInput(feature.name, dtype, feature.level, meaning)


def _history_input(feature: Feature, part: str) -> RequestInput:
    assert feature.history is not None
    meanings = {
        "item_id": "items of the customer's last events, most recent first",
        "action": f"their events, of {', '.join(feature.history.events)}; others are left out",
        "age": "seconds from each event to the request",
    }
    return RequestInput(f"{feature.name}.{part}", HISTORY_PARTS[part], "history", meanings[part])
