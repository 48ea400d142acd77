"""Cleaning: what types become, and which rows are set aside for which reason."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cvr.errors import CvrError
from cvr.transforms import EMPTY, PAD, UNSEEN, hash_strings
from pipelines.normalise import clean_engagements, clean_impressions, clean_items, places_of, require_columns
from pipelines.values import ABSENT, absent_mask, as_coded, as_integers, as_numbers, as_text
from tests.pipelines.logs import ENGAGEMENT_TYPES, IMPRESSION_TYPES, T0, done, plan, shown, table

PLAN = plan()
HASHED = {text: int(hash_strings([text]).numpy()[0]) for text in ("a", "d", "q", "s", "u")}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["a", None, ""]), ["a", None, ""]),
        (pa.array([3, None]), ["3", None]),
        (pa.array([3.0, 2.5, float("nan"), None]), ["3", "2.5", None, None]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([["a", "b"], [], None, ["c", None]]), ["a|b", "", None, "c|"]),
        (pa.array([None, None]), [None, None]),
        (pa.array([[1, 2]]).slice(0, 1), ["1|2"]),
    ],
)
def test_as_text(values: pa.Array, expected: list[Any]) -> None:
    assert as_text(values, "c").to_pylist() == expected


def test_a_slice_of_lists_keeps_its_own_values() -> None:
    assert as_text(pa.array([["a"], ["b", "c"], ["d"]]).slice(1, 2), "c").to_pylist() == ["b|c", "d"]


def test_structs_have_no_text_and_lists_no_number() -> None:
    with pytest.raises(CvrError, match="column 'c' has type struct"):
        as_text(pa.array([{"a": 1}]), "c")
    with pytest.raises(CvrError, match="column 'c' has type list"):
        as_numbers(pa.array([[1]]), "c")


def test_as_numbers() -> None:
    numbers, wrong = as_numbers(pa.array(["1.5", " 2 ", "", None, "dear", "inf"]), "c")
    np.testing.assert_array_equal(numbers, [1.5, 2.0, np.nan, np.nan, np.nan, np.nan])
    assert wrong.tolist() == [False, False, False, False, True, False]
    np.testing.assert_array_equal(
        as_numbers(pa.array([1.0, float("inf"), float("-inf"), None]), "c")[0], [1.0, np.nan, np.nan, np.nan]
    )
    np.testing.assert_array_equal(as_numbers(pa.array([True, None]), "c")[0], [1.0, np.nan])


def test_as_integers_reads_timestamps_as_ms_utc() -> None:
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    for unit in ("s", "ms", "us", "ns"):
        assert as_integers(pa.array([moment, None], pa.timestamp(unit, "UTC")), "time")[0].tolist()[0] == T0
    offset = datetime.timezone(datetime.timedelta(hours=1))
    assert as_integers(pa.array([moment.astimezone(offset)], pa.timestamp("ms", "+01:00")), "time")[0].tolist() == [T0]
    values, null, wrong = as_integers(pa.array(["12", "1.5", None, "x"]), "time")
    assert (values.tolist(), null.tolist(), wrong.tolist()) == (
        [12, 0, 0, 0],
        [False, False, True, False],
        [False, True, False, True],
    )


def test_times_of_day_and_durations_are_ms() -> None:
    morning, lasting = datetime.time(1, 1, 1, 500), datetime.timedelta(seconds=2, microseconds=500_000)
    for kind in (pa.time64("us"), pa.time64("ns")):
        assert as_integers(pa.array([morning, None], kind), "c")[0].tolist() == [3_661_000, 0]
    np.testing.assert_array_equal(as_numbers(pa.array([morning, None], pa.time64("us")), "c")[0], [3_661_000, np.nan])
    assert as_numbers(pa.array([lasting], pa.duration("us")), "c")[0].tolist() == [2_500]
    with pytest.raises(CvrError, match="column 'c' has type month_day_nano_interval"):
        as_numbers(pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "c")


BAD_IMPRESSIONS = [
    ({"search_id": None}, "search_id is null or empty"),
    ({"search_id": ""}, "search_id is null or empty"),
    ({"item_id": None}, "item_id is null or empty"),
    ({"time": None}, "time is null"),
    ({"time": 1_767_225_600}, "time lies before 1973"),
    ({"time": T0 * 1000}, "time lies after the year 3000"),
    ({"position": None}, "position is null"),
    ({"position": 0}, "position is not a whole number from 1 on"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_IMPRESSIONS)
def test_bad_impressions_are_set_aside_with_a_reason(change: dict[str, Any], reason: str) -> None:
    rows = shown("s", 0, ["a", "b", "c"])
    rows[1] |= change
    cleaned = clean_impressions(table(rows, IMPRESSION_TYPES), PLAN)
    assert len(cleaned.table) == 2
    assert [(row, text[: len(reason)]) for row, text in cleaned.bad] == [(1, reason)]


def test_text_in_a_numerical_column_is_a_bad_row() -> None:
    rows = [{**row, "price": price} for row, price in zip(shown("s", 0, ["a", "b"]), ["1.5", "cheap"], strict=True)]
    cleaned = clean_impressions(table(rows, IMPRESSION_TYPES), PLAN)
    assert cleaned.bad == [(1, "price is not a number")]
    assert cleaned.table.column("n:price").to_pylist() == [1.5]


def test_bad_engagements() -> None:
    rows = [
        done("click", 0, "a"),
        done("click", 0, ""),
        {**done("click", 0, "a"), "event": None},
        done("impression", 0, "a"),
    ]
    cleaned = clean_engagements(table(rows, ENGAGEMENT_TYPES), PLAN)
    assert [row for row, _ in cleaned.bad] == [1, 2, 3]
    assert "reserved" in cleaned.bad[2][1]
    assert cleaned.events == {"click": 1}


def test_events_that_the_spec_does_not_name_are_counted_and_left_out() -> None:
    cleaned = clean_engagements(table([done("click", 0, "a"), done("share", 0, "a")], ENGAGEMENT_TYPES), PLAN)
    assert len(cleaned.table) == 1 and cleaned.bad == []
    assert cleaned.events == {"click": 1, "share": 1}


def test_an_absent_column_is_not_a_null() -> None:
    there = clean_impressions(table(shown("s", 0, ["a"], price=None, device=None, query=None), IMPRESSION_TYPES), PLAN).table
    absent = clean_impressions(table(shown("s", 0, ["a"]), IMPRESSION_TYPES), PLAN).table
    assert np.isnan(there.column("n:price").to_pylist()[0]) and absent.column("n:price").to_pylist() == [float("-inf")]
    assert there.column("c:device").to_pylist() == [EMPTY] and absent.column("c:device").to_pylist() == [UNSEEN]
    assert there.column("s:query").to_pylist() == [None] and absent.column("s:query").to_pylist() == [ABSENT]


def test_values_that_a_mask_says_are_absent() -> None:
    rows = [{**row, "price": 1.0, "device": "d", "query": "q"} for row in shown("s", 0, ["a", "b", "c"])]
    found = table(rows, IMPRESSION_TYPES)
    for name in ("price", "device", "query"):
        found = found.append_column(absent_mask(name), pa.array([False, True, False]))
    carried = clean_impressions(found, PLAN).table
    assert carried.column("n:price").to_pylist() == [1.0, float("-inf"), 1.0]
    assert carried.column("c:device").to_pylist() == [HASHED["d"], UNSEEN, HASHED["d"]]
    assert carried.column("s:query").to_pylist() == ["q", ABSENT, "q"]
    assert carried.column("query").to_pylist() == [HASHED["q"]] * 3, "the query of aggregates is that of the log"


def test_what_is_carried_of_impressions() -> None:
    rows = shown("s", 0, ["a"], price=0.1, device="phone", query="red", other=1)
    carried = clean_impressions(table(rows, IMPRESSION_TYPES), PLAN)
    names = {"customer", "search", "item", "time", "position", "is_list", "query", "n:price", "c:device", "s:query"}
    assert set(carried.table.column_names) == names
    types = {name: carried.table.schema.field(name).type for name in ("position", "n:price", "c:device", "is_list")}
    assert types == {"position": pa.int32(), "n:price": pa.float32(), "c:device": pa.int64(), "is_list": pa.bool_()}
    assert carried.table.column("n:price").to_pylist() == [float(np.float32(0.1))]
    assert carried.searches is not None
    codes, texts = carried.searches
    assert (codes.tolist(), texts.to_pylist()) == ([0], ["s"])


def test_a_column_that_is_read_as_a_category_and_as_a_text() -> None:
    head = "dataset: d\ntasks: {b: {events: [b], window: 1d, primary: true}}\nfeatures:\n"
    as_category = "  one: {kind: categorical, level: item, from: impression.x, embedding: {buckets: 8, dim: 2}}\n"
    as_text = "  two: {kind: text, level: item, from: impression.x, embedding: {buckets: 8, dim: 2}}\n"
    rows = [{**row, "x": value} for row, value in zip(shown("s", 0, ["a", "b", "c"]), ["d", None, ""], strict=True)]
    both = clean_impressions(table(rows, IMPRESSION_TYPES), plan(head + as_category + as_text)).table
    assert both.column("c:x").to_pylist() == [HASHED["d"], EMPTY, EMPTY]
    assert both.column("s:x").to_pylist() == ["d", None, ""]


def test_ids_are_hashed_and_a_null_customer_is_pad() -> None:
    found = clean_impressions(table(shown("s", 0, ["a"], None), IMPRESSION_TYPES), PLAN).table
    assert found.column("item").to_pylist() == [HASHED["a"]]
    assert found.column("customer").to_pylist() == [PAD]


def test_a_row_s_partition_is_that_of_its_customer_else_of_its_search_else_of_its_item() -> None:
    rows = [done("click", 0, "a"), done("click", 0, "a", None, search_id="s"), done("click", 0, "a", None)]
    found = clean_engagements(table(rows, ENGAGEMENT_TYPES), PLAN).table
    assert places_of(found, 7).tolist() == [HASHED[key] % 7 for key in ("u", "s", "a")]
    assert places_of(found, 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "codes", "distinct"),
    [
        (pa.array(["b", None, "a", "b"]), [0, 2, 1, 0], ["b", "a"]),
        (pa.array([2.0, 2.5, 2.0, float("nan")]), [0, 1, 0, 2], ["2", "2.5"]),
        (pa.array(["x", None, "y"]).dictionary_encode(), [0, 2, 1], ["x", "y"]),
        (pa.DictionaryArray.from_arrays(pa.array([1, 2, 0, None]), pa.array(["x", None, "y"])), [2, 1, 0, 2], ["x", "y"]),
        (pa.array([["a", "b"], ["a", "b"], None]), [0, 0, 1], ["a|b"]),
        (pa.chunked_array([pa.array(["x"]).dictionary_encode(), pa.array(["y", "x"]).dictionary_encode()]), [0, 1, 0], ["x", "y"]),
        (pa.array([], pa.string()), [], []),
    ],
)
def test_as_coded(values: pa.Array, codes: list[int], distinct: list[str]) -> None:
    found, texts = as_coded(values, "c")
    assert (found.tolist(), texts.to_pylist()) == (codes, distinct)


def test_integer_ids_equal_the_same_ids_as_text() -> None:
    rows = shown("7", 0, ["12"])
    as_numbers_ = table(rows, IMPRESSION_TYPES).set_column(3, "item_id", pa.array([12]))
    assert clean_impressions(as_numbers_, PLAN).table.equals(
        clean_impressions(table(rows, IMPRESSION_TYPES), PLAN).table
    )


def test_only_the_search_domain_makes_lists_and_a_null_domain_is_search() -> None:
    rows = [
        {**row, "domain": d} for row, d in zip(shown("s", 0, ["a", "b", "c"]), ["search", "feed", None], strict=True)
    ]
    assert clean_impressions(table(rows, IMPRESSION_TYPES), PLAN).table.column("is_list").to_pylist() == [
        True,
        False,
        True,
    ]


def test_items_and_missing_canonical_columns() -> None:
    items = pa.table({"item_id": ["a", None], "title": ["x", "y"], "stock": [1, 2]})
    cleaned = clean_items(items, PLAN)
    assert len(cleaned.table) == 1 and cleaned.bad == [(1, "item_id is null or empty")]
    with pytest.raises(
        CvrError,
        match=r"f.parquet: the impressions lack the column\(s\) customer_id, position; they have search_id, time, item_id",
    ):
        require_columns("impressions", ["search_id", "time", "item_id"], "f.parquet")
