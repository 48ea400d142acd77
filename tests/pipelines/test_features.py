"""Values of features: nulls, absent columns, features launched later, joins with items, bags of ids."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvr.records import ListColumns
from cvr.transforms import EMPTY, UNSEEN, char_ngrams, hash_strings
from tests.pipelines.logs import DAY, T0, done, shown
from tests.pipelines.steps import Log, run, steps_settings

HEAD = "dataset: tiny\ntasks:\n  purchase: {events: [purchase], window: 1d, primary: true}\nfeatures:\n"
EMBEDDING = "embedding: {buckets: 8, dim: 2}"


def _columns(
    features: str,
    rows: list[dict[str, Any]],
    events: list[dict[str, Any]] | None = None,
    items: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> ListColumns:
    """The lists of a log, in the order of their search ids; nothing is set aside."""
    spec = HEAD + "".join(f"  {line.strip()}\n" for line in features.strip().splitlines())
    settings = steps_settings(spec, partitions=2, log_end=T0 + 9 * DAY, **changes)
    return run(Log.of(rows, events or [], items or []), settings).columns()


def _ids(*texts: str) -> list[int]:
    return hash_strings(list(texts)).numpy().tolist()


def test_numericals_tell_null_absent_and_too_early_apart() -> None:
    rows = shown("s1", 0, ["a", "b"], price=2.5, rank=None) + shown("s2", DAY, ["a"], price=None, rank=1)
    found = _columns(
        """price: {kind: numerical, level: item, from: impression.price}
        rank: {kind: numerical, level: context, from: impression.rank, introduced_on: 2026-01-02}
        gone: {kind: numerical, level: item, from: impression.gone}""",
        rows,
    )
    np.testing.assert_array_equal(found.item_num, [[2.5, -np.inf], [2.5, -np.inf], [np.nan, -np.inf]])
    np.testing.assert_array_equal(found.context_num, [[-np.inf], [1.0]])


def test_values_beyond_float32_stay_finite() -> None:
    found = _columns("price: {kind: numerical, level: item, from: impression.price}", shown("s", 0, ["a"], price=1e300))
    assert found.item_num[0, 0] == np.finfo(np.float32).max


def test_categories_tell_null_absent_and_too_early_apart() -> None:
    rows = (
        shown("s1", 0, ["a"], device="phone", late="x")
        + shown("s2", DAY, ["a"], device=None, late="x")
        + shown("s3", DAY, ["a"], device="")
    )
    found = _columns(
        f"""device: {{kind: categorical, level: context, from: impression.device, {EMBEDDING}}}
        late: {{kind: categorical, level: item, from: impression.late, introduced_on: 2026-01-02, {EMBEDDING}}}
        gone: {{kind: categorical, level: item, from: impression.gone, {EMBEDDING}}}""",
        rows,
    )
    assert found.search_id.tolist() == [b"s1", b"s2", b"s3"]
    assert found.cat["device"].tolist() == [_ids("phone")[0], EMPTY, EMPTY]
    assert found.cat["late"].tolist() == [UNSEEN, _ids("x")[0], EMPTY]
    assert found.cat["gone"].tolist() == [UNSEEN] * 3


def test_several_values_are_trimmed_and_never_an_empty_bag() -> None:
    rows = [
        {**row, "tags": tags}
        for row, tags in zip(shown("s", 0, list("abcd")), ["x | y", None, " | ", "x"], strict=True)
    ]
    bag = _columns(
        f'tags: {{kind: categorical, level: item, from: impression.tags, separator: "|", {EMBEDDING}}}', rows
    ).bags["tags"]
    assert bag.lengths.tolist() == [2, 1, 1, 1]
    assert bag.values.tolist() == [*_ids("x", "y"), EMPTY, EMPTY, *_ids("x")]


def test_texts_become_the_ngrams_of_the_transform() -> None:
    rows = shown("s1", 0, ["a", "b"], query="Red") + shown("s2", 1, ["a"], query=None)
    bag = _columns(
        f"query: {{kind: text, level: context, from: impression.query, ngrams: [2], {EMBEDDING}}}", rows
    ).bags["query"]
    assert bag.lengths.tolist() == [2, 1]
    assert bag.values.tolist() == [*char_ngrams(["red"], [2], 64).values.numpy().tolist(), EMPTY]


def test_a_text_before_its_launch_is_unseen() -> None:
    rows = shown("s1", 0, ["a"], query="red") + shown("s2", DAY, ["a"], query="red")
    text = f"query: {{kind: text, level: context, from: impression.query, ngrams: [3], introduced_on: 2026-01-02, {EMBEDDING}}}"
    bag = _columns(text, rows).bags["query"]
    assert bag.lengths.tolist() == [1, 1] and bag.values[0] == UNSEEN and bag.values[1] > UNSEEN


def test_item_attributes_are_joined_and_unknown_items_are_missing() -> None:
    items = [
        {"item_id": "b", "stock": 1.0, "brand": "x"},
        {"item_id": "a", "stock": None, "brand": "y"},
        {"item_id": "b", "stock": 2.0, "brand": None},
    ]
    found = _columns(
        f"""stock: {{kind: numerical, level: item, from: item.stock}}
        brand: {{kind: categorical, level: item, from: item.brand, {EMBEDDING}}}""",
        shown("s", 0, ["a", "b", "z"]),
        items=items,
    )
    np.testing.assert_array_equal(found.item_num[:, 0], [np.nan, 2.0, np.nan])
    assert found.cat["brand"].tolist() == [*_ids("y"), EMPTY, EMPTY]


def test_a_context_feature_of_items_is_that_of_the_list_s_first_item() -> None:
    items = [{"item_id": "a", "stock": 1.0, "brand": "x", "title": "k"}, {"item_id": "b", "stock": 2.0, "brand": "y", "title": "l"}]
    rows = shown("s1", 0, ["a", "b"]) + shown("s2", 1, ["b", "a", "z"], "v") + shown("s3", 2, ["z", "a"], "w")
    found = _columns(
        f"""stock: {{kind: numerical, level: context, from: item.stock}}
        brand: {{kind: categorical, level: context, from: item.brand, {EMBEDDING}}}
        title: {{kind: text, level: context, from: item.title, ngrams: [1], {EMBEDDING}}}""",
        rows,
        items=items,
    )
    np.testing.assert_array_equal(found.context_num[:, 0], [1.0, 2.0, np.nan])
    assert found.cat["brand"].tolist() == [*_ids("x", "y"), EMPTY]
    grams = char_ngrams(["k", "l"], [1], 64).values.numpy().tolist()
    assert found.bags["title"].lengths.tolist() == [1, 1, 1] and found.bags["title"].values.tolist() == [*grams, EMPTY]


def test_popularity_counts_purchases_strictly_before_the_list() -> None:
    events = [done("purchase", 5, "a"), done("purchase", 10, "a"), done("purchase", 11, "b")]
    text, rows = "price: {kind: numerical, level: item, from: impression.price}", shown("s", 10, ["a", "b"], price=1)
    assert _columns(text, rows, events, popularity_bucket=1).popularity.tolist() == [1.0, 0.0]
    assert _columns(text, rows, events).popularity.tolist() == [0.0, 0.0], "by default it counts whole days"
    later = shown("s", DAY, ["a", "b"], price=1)
    assert _columns(text, later, events).popularity.tolist() == [2.0, 1.0]


def test_without_a_popularity_its_place_is_missing() -> None:
    text = """price: {kind: numerical, level: item, from: impression.price}
    own: {kind: numerical, level: item, aggregate: {by: [item], event: purchase, bucket: 1ms}}"""
    events, rows = [done("purchase", 5, "a")], shown("s", 10, ["a", "b"], price=1)
    found = _columns(text, rows, events, popularity_bucket=None)
    np.testing.assert_array_equal(found.popularity, [np.nan, np.nan])
    np.testing.assert_array_equal(found.item_num, [[1.0, 1.0], [1.0, 0.0]])


def test_aggregates_use_the_list_time_and_are_missing_for_a_null_key() -> None:
    text = "own: {kind: numerical, level: item, aggregate: {by: [customer, item], event: purchase, bucket: 1ms}}"
    events = [done("purchase", 5, "a"), done("purchase", 6, "a", customer="v")]
    found = _columns(text, shown("s", 10, ["a", "b"]) + shown("t", 11, ["a"], None), events)
    np.testing.assert_array_equal(found.item_num[:, 0], [1.0, 0.0, np.nan])


def test_a_sequence_before_its_launch_is_one_unseen_event() -> None:
    text = f"past: {{kind: sequence, level: context, history: {{events: [purchase], length: 2}}, introduced_on: 2026-01-02, {EMBEDDING}}}"
    found = _columns(text, shown("s", 10, ["a"]) + shown("t", DAY, ["a"]), [done("purchase", 5, "a")]).sequences["past"]
    assert found.item.tolist() == [UNSEEN, *_ids("a")] and found.lengths.tolist() == [1, 1]
    assert found.age[1] == np.float32((DAY - 5) / 1000) and T0 > 0


def test_without_items_their_features_are_unseen() -> None:
    text = f"""stock: {{kind: numerical, level: item, from: item.stock, introduced_on: 2026-01-01}}
    brand: {{kind: categorical, level: item, from: item.brand, introduced_on: 2026-01-01, {EMBEDDING}}}
    title: {{kind: text, level: item, from: item.title, introduced_on: 2026-01-01, {EMBEDDING}}}"""
    found = _columns(text, shown("s", 0, ["a", "b"]))
    assert np.isneginf(found.item_num).all() and found.cat["brand"].tolist() == [UNSEEN] * 2
    assert found.bags["title"].values.tolist() == [UNSEEN] * 2
