from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from cvr.errors import CvrError
from cvr.schema import parse_spec
from export.example import example_search
from export.inputs import request_inputs
from export.request import Search, to_arrays
from export.servable import TensorInfo
from tests.export.tiny import SPEC

INFOS = {e.name: TensorInfo(e.dtype, tuple(e.tensor_spec().shape.as_list())) for e in request_inputs(parse_spec(SPEC))}


def test_missing_and_unseen() -> None:
    search = Search({"query": None, "hour": None}, [{"item_id": "a", "price": 2}, {"item_id": "b", "price": None}, {"item_id": "c"}])
    arrays = to_arrays(search, INFOS)
    assert arrays["query"].tolist() == [""] and arrays["device"].tolist() == ["\x00"]
    np.testing.assert_array_equal(arrays["hour"], np.float32([np.nan]))
    np.testing.assert_array_equal(arrays["price"], np.float32([2.0, np.nan, -np.inf]))
    assert arrays["tags"].tolist() == ["\x00"] * 3
    assert arrays["recent.item_id"].tolist() == ["\x00"] and arrays["recent.age"].tolist() == [0.0]
    assert to_arrays(search._replace(history={"recent": []}), INFOS)["recent.item_id"].shape == (0,)


def test_display_order_is_the_row_unless_given() -> None:
    items = [{"item_id": "a"}, {"item_id": "b", "item_offset": 0}]
    assert to_arrays(Search({}, items[:1] * 3), INFOS)["item_offset"].tolist() == [0, 1, 2]
    assert to_arrays(Search({}, items), INFOS)["item_offset"].tolist() == [0, 0]


def test_values_become_the_text_of_the_pipelines() -> None:
    values = [3.0, 3, 2.5, True, ["x", 4.0], "ä"]
    arrays = to_arrays(Search({}, [{"item_id": "a", "tags": value} for value in values]), INFOS)
    assert arrays["tags"].tolist() == ["3", "3", "2.5", "true", "x|4", "ä"]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (Search({}, []), "no items to rank"),
        (Search({}, [{"price": 1.0}]), r"items\[0\] has no item_id"),
        (Search({"colour": 1}, [{"item_id": "a"}]), "context: the model has no input 'colour'"),
        (Search({}, [{"item_id": "a", "hour": 1}]), "items: the model has no input 'hour'"),
        (Search({}, [{"item_id": "a", "price": "cheap"}]), "price must be a number"),
        (Search({}, [{"item_id": "a", "tags": {"x": 1}}]), "tags must be text"),
        (Search({}, [{"item_id": "a"}], {"older": []}), "history: the model has no input 'older'"),
        (Search({}, [{"item_id": "a"}], {"recent": [{"item_id": "a", "age": 1}]}), r"recent\[0\] has no action"),
        (Search({}, [{"item_id": "a"}], {"recent": [{"item": "a"}]}), "history event: the model has no input 'item'"),
    ],
)
def test_searches_that_cannot_be_ranked(search: Search, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        to_arrays(search, INFOS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f.json:1: not valid JSON"),
        ("[]", "a request is an object with items"),
        ('{"items": [], "query": "x"}', "a request is an object with items"),
        ('{"items": {}}', "items must be a list of objects"),
        ('{"items": [1]}', "items must be a list of objects"),
        ('{"items": [], "context": 3}', "context and history are objects"),
        ('{"items": [], "history": {"recent": 3}}', "history.recent must be a list of objects"),
    ],
)
def test_json_that_is_no_request(text: str, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        Search.from_json(text, "f.json")


def test_json_round_trip_and_seed() -> None:
    search = example_search(parse_spec(SPEC), items=4, seed=2, gaps=0.2)
    assert Search.from_json(search.to_json(), "x") == search == example_search(parse_spec(SPEC), items=4, seed=2, gaps=0.2)
    assert json.loads(search.to_json())["items"][0]["item_id"] and INFOS["price"].dtype == tf.float32


def test_missing_request_file() -> None:
    with pytest.raises(CvrError, match="no request file nowhere.json"):
        Search.from_file("nowhere.json")
