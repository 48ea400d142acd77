from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr import transforms
from cvr.schema import parse_spec
from export.preprocess import display_offsets, encode_request, hash_ids, split_ids
from tests.export.tiny import SPEC


def _request(**changes: object) -> dict[str, tf.Tensor]:
    values: dict[str, object] = {
        "item_id": ["a", "b", "c"],
        "item_offset": [10, 30, 20],
        "query": ["red"],
        "device": ["phone"],
        "hour": [9.0],
        "price": [1.0, float("nan"), transforms.UNSEEN_VALUE],
        "rate": [0.1, 0.2, 0.3],
        "tags": ["x|y", "", "\x00"],
        "title": ["abcd", "\x00", ""],
        "recent.item_id": ["b", "z", "a", "q", "r", "s"],
        "recent.action": ["click", "view", "purchase", "click", "click", "click"],
        "recent.age": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        **changes,
    }
    texts = {"item_id", "query", "device", "tags", "title", "recent.item_id", "recent.action"}
    dtypes = {"item_offset": tf.int32, **dict.fromkeys(texts, tf.string)}
    return {name: tf.constant(value, dtypes.get(name, tf.float32)) for name, value in values.items()}


def _encode(**changes: object) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in encode_request(parse_spec(SPEC), _request(**changes)).items()}


def _ids(*values: str) -> list[int]:
    return transforms.hash_strings(list(values)).numpy().tolist()


def test_numbers_and_categories() -> None:
    batch = _encode()
    np.testing.assert_array_equal(batch["item_num"][:, 0], np.float32([1.0, np.nan, -np.inf]))
    np.testing.assert_array_equal(batch["item_num"][:, 1], np.float32([0.1, 0.2, 0.3]))
    assert batch["context_num"].tolist() == [[9.0]]
    assert batch["cat/device"].tolist() == _ids("phone")
    assert batch["item"].tolist() == batch["cat/item"].tolist() == _ids("a", "b", "c")
    assert batch["list_index"].tolist() == [0, 0, 0] and batch["list_size"].tolist() == [3]


def test_item_offset_is_the_rank_of_the_given_numbers() -> None:
    assert _encode()["item_offset"].tolist() == [0, 2, 1]


def test_bags_keep_missing_and_unseen_apart() -> None:
    batch = _encode()
    assert batch["ragged/tags/values"].tolist() == [*_ids("x", "y"), transforms.EMPTY, transforms.UNSEEN]
    assert batch["ragged/tags/rows"].tolist() == [0, 0, 1, 2]
    trigrams = transforms.char_ngrams(tf.constant(["abcd"]), (3,), 64).values.numpy().tolist()
    assert batch["ragged/title/values"].tolist() == [*trigrams, transforms.UNSEEN, transforms.EMPTY]


def test_history_leaves_other_events_out_before_it_is_cut() -> None:
    batch = _encode()
    assert batch["seq/recent/item"].tolist() == [_ids("b", "a", "q", "r")]
    assert batch["seq/recent/action"].tolist() == [[4, 5, 4, 4]]
    assert batch["seq/recent/age"].tolist() == [[1.0, 3.0, 4.0, 5.0]]


def test_empty_and_unseen_histories_differ() -> None:
    none = {f"recent.{part}": [] for part in ("item_id", "action", "age")}
    assert _encode(**none)["seq/recent/item"].tolist() == [[0, 0, 0, 0]]
    unseen = _encode(**{"recent.item_id": ["\x00"], "recent.action": ["\x00"], "recent.age": [0.0]})
    assert unseen["seq/recent/item"].tolist() == unseen["seq/recent/action"].tolist() == [[transforms.UNSEEN, 0, 0, 0]]


def test_split_ids_strip_as_python_does() -> None:
    texts = [" a |\u00a0b\u3000|", "|  |", "c"]
    values = split_ids(tf.constant(texts), "|")
    assert values.to_list() == [_ids("a", "b"), [transforms.EMPTY], _ids("c")]


def test_hash_ids() -> None:
    assert hash_ids(tf.constant(["", "\x00", "a"])).numpy().tolist() == [transforms.EMPTY, transforms.UNSEEN, *_ids("a")]


def test_display_offsets_per_list_with_ties() -> None:
    offsets = display_offsets(tf.constant([0, 1, 0, 1, 1]), tf.constant([7, 2, 7, 1, 2]))
    assert offsets.numpy().tolist() == [0, 1, 1, 0, 2]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"price": [1.0]}, "price"),
        ({"recent.age": [1.0]}, "recent.age"),
        ({name: [] for name in ("item_id", "item_offset", "price", "rate", "tags", "title")}, "item_id holds no item"),
    ],
)
def test_lengths_that_do_not_fit(changes: dict[str, object], named: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=named):
        _encode(**changes)
