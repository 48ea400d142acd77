"""Point-in-time counts and rates against references in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.schema import Aggregate
from cvr.transforms import PAD
from pipelines import aggregates
from pipelines.aggregates import CountTable
from pipelines.batches import from_bytes, to_bytes
from pipelines.settings import Component
from tests.pipelines.logs import SPEC, T0, done, engagements, impressions, plan, shown

PLAN = plan()


def _table(rows: list[tuple[int, int]]) -> CountTable:
    keys, times = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    return CountTable(aggregates._group(keys, times, np.ones(len(rows), np.int64)))


ROWS = st.lists(st.tuples(st.integers(5, 8), st.integers(0, 20)), max_size=25)
QUERIES = st.lists(st.tuples(st.integers(4, 9), st.integers(-3, 25)), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(ROWS, QUERIES, st.integers(1, 4), st.none() | st.integers(1, 10), st.integers(0, 5))
def test_counts_equal_the_reference(
    rows: list[Any], queries: list[Any], bucket: int, window: int | None, lag: int
) -> None:
    table = _table([(key, time // bucket) for key, time in rows])
    keys, times = (np.array([query[i] for query in queries], np.int64) for i in (0, 1))
    found = table.between(keys, times, bucket, window, lag)
    for (key, time), count in zip(queries, found, strict=True):
        first = -np.inf if window is None else time - lag - window
        inside = [
            t
            for k, t in rows
            if k == key and t // bucket * bucket >= first and (t // bucket + 1) * bucket <= time - lag
        ]
        assert count == len(inside)


def test_one_ms_buckets_count_exactly_what_is_strictly_before() -> None:
    table = _table([(5, T0), (5, T0), (5, T0 + 1), (6, T0)])
    assert table.between(np.array([5, 5, 5]), np.array([T0, T0 + 1, T0 + 2]), 1, None, 0).tolist() == [0, 2, 3]


def test_day_buckets_wait_for_the_day_to_end() -> None:
    day = 86_400_000
    table = _table([(5, T0 // day)])
    assert table.between(np.array([5, 5, 5]), T0 + np.array([1, day - 1, day]), day, None, 0).tolist() == [0, 0, 1]
    assert table.between(np.array([5, 5]), T0 + np.array([day, 2 * day]), day, None, day).tolist() == [0, 1]


def test_a_table_without_any_count() -> None:
    assert _table([]).between(np.array([5, PAD]), np.array([T0, T0]), 1, 5, 0).tolist() == [0, 0]


def test_partial_counts_of_partitions_add_up() -> None:
    component = Component(("item",), ("click", "impression"), 1000)
    first = aggregates.partial_counts(
        component, impressions(shown("s", 0, ["a", "b"]), PLAN), engagements([done("click", 5, "a")], PLAN), PLAN
    )
    second = aggregates.partial_counts(
        component, impressions(shown("t", 0, ["a"]), PLAN), engagements([done("purchase", 5, "a")], PLAN), PLAN
    )
    _, table = from_bytes(aggregates.combine([to_bytes("counts", first), to_bytes("counts", second)]))
    assert sorted(table.column("count").to_pylist()) == [1, 3]


def test_keys_of_null_parts_are_not_counted() -> None:
    rows = impressions([*shown("s", 0, ["a"], None), *shown("t", 0, ["a"], "u")], PLAN)
    found = aggregates.partial_counts(
        Component(("customer", "item"), ("impression",), 1), rows, engagements([], PLAN), PLAN
    )
    assert found.column("count").to_pylist() == [1]


def test_smoothed_rate_by_hand() -> None:
    aggregate = Aggregate(by=("item",), event="click", per="impression", prior=2, window="all", bucket="1ms")
    clicks, shows = _table([(5, 1), (5, 2), (6, 3)]), _table([(5, 0), (5, 1), (5, 2), (6, 1), (7, 9)])
    all_clicks, all_shows = _table([(1, 1), (1, 2), (1, 3)]), _table([(1, t) for t in (0, 1, 2, 1, 9)])
    found = aggregates.value(
        aggregate, [clicks, shows, all_clicks, all_shows], np.array([5, 6, 8, PAD, 5]), np.array([4, 4, 4, 4, 0])
    )
    base = 3 / 4
    np.testing.assert_allclose(found, [(2 + 2 * base) / 5, (1 + 2 * base) / 3, 2 * base / 2, np.nan, 0.0])


def test_a_rate_without_prior_or_denominator_is_missing() -> None:
    aggregate = Aggregate(by=("item",), event="click", per="impression", prior=0, bucket="1ms")
    none = _table([])
    assert np.isnan(aggregates.value(aggregate, [none] * 4, np.array([5]), np.array([9]))).all()


def test_two_part_keys_depend_on_the_order_of_parts() -> None:
    columns = {"item": np.array([11, 12]), "query": np.array([12, 11])}
    keys = aggregates.keys_of(("item", "query"), columns, 2)
    assert keys[0] != keys[1] and (keys > 0).all()


def test_components_of_a_spec_are_shared_and_popularity_is_first() -> None:
    names = [(c.by, c.events, c.bucket) for c in PLAN.components]
    assert names[0] == (("item",), ("purchase",), 1)
    assert names.count((("item",), ("click",), 1)) == 1
    assert ((), ("impression",), 1) in names
    assert PLAN.needs_query


@pytest.mark.parametrize("spec", [SPEC])
def test_an_engagement_with_a_query_counts_for_the_query_of_its_impression(spec: str) -> None:
    events = engagements([done("click", 5, "a")], PLAN).append_column("query", pa.array(np.array([77])))
    rows = impressions(shown("s", 0, ["a"], query="q"), PLAN)
    found = aggregates.partial_counts(Component(("query",), ("click",), 1), rows, events, PLAN)
    assert found.column("key").to_pylist() == [77]
