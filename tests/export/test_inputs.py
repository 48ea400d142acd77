from __future__ import annotations

import pytest
import tensorflow as tf

from cvr.errors import CvrError
from cvr.schema import parse_spec
from export.inputs import request_inputs
from tests.export.tiny import SPEC


def test_inputs_follow_the_spec() -> None:
    inputs = {entry.name: (entry.dtype, entry.level) for entry in request_inputs(parse_spec(SPEC))}
    assert inputs == {
        "item_id": (tf.string, "item"),
        "item_offset": (tf.int32, "item"),
        "query": (tf.string, "context"),
        "device": (tf.string, "context"),
        "hour": (tf.float32, "context"),
        "price": (tf.float32, "item"),
        "rate": (tf.float32, "item"),
        "tags": (tf.string, "item"),
        "title": (tf.string, "item"),
        "recent.item_id": (tf.string, "history"),
        "recent.action": (tf.string, "history"),
        "recent.age": (tf.float32, "history"),
    }


def test_shapes_by_level() -> None:
    shapes = {entry.name: entry.tensor_spec().shape.as_list() for entry in request_inputs(parse_spec(SPEC))}
    assert shapes["hour"] == [1] and shapes["price"] == [None] and shapes["recent.age"] == [None]


def test_feature_that_takes_the_name_of_an_input() -> None:
    with pytest.raises(CvrError, match="features.item_offset: the name is taken"):
        request_inputs(parse_spec(SPEC.replace("price:", "item_offset:").replace("feature: price", "feature: item_offset")))
