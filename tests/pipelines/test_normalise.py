"""Cleaning: what types become, and which rows are set aside for which reason."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cvr.errors import CvrError
from cvr.transforms import PAD, hash_strings
from pipelines.normalise import clean_engagements, clean_impressions, clean_items, partition_keys, require_columns
from pipelines.values import ABSENT, as_integers, as_numbers, as_text
from tests.pipelines.logs import ENGAGEMENT_TYPES, IMPRESSION_TYPES, T0, done, plan, shown, table

PLAN = plan()


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
    there = clean_impressions(table(shown("s", 0, ["a"], price=None, device=None), IMPRESSION_TYPES), PLAN).table
    absent = clean_impressions(table(shown("s", 0, ["a"]), IMPRESSION_TYPES), PLAN).table
    assert np.isnan(there.column("n:price").to_pylist()[0]) and absent.column("n:price").to_pylist() == [float("-inf")]
    assert there.column("s:device").to_pylist() == [None] and absent.column("s:device").to_pylist() == [ABSENT]


def test_ids_are_hashed_and_a_null_customer_is_pad() -> None:
    found = clean_impressions(table(shown("s", 0, ["a"], None), IMPRESSION_TYPES), PLAN).table
    assert found.column("item").to_pylist() == hash_strings(["a"]).numpy().tolist()
    assert found.column("customer").to_pylist() == [PAD]
    assert partition_keys(found).tolist() == hash_strings(["s"]).numpy().tolist()


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
