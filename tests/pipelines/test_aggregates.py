"""Point-in-time counts and rates against references in plain Python."""

from __future__ import annotations

import datetime
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
from pipelines.settings import Component, Question
from tests.pipelines.logs import DAY, HOUR, T0, done, engagements, impressions, plan, shown

PLAN = plan()
CLICKS = Component(("item",), ("click",), 1)


def _counts(rows: list[tuple[int, int]]) -> pa.Table:
    keys, buckets = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    return pa.table({"key": keys, "bucket": buckets, "count": np.ones(len(rows), np.int64)})


def _asked(rows: list[tuple[int, int]], question: Question, queries: list[tuple[int, int]]) -> list[list[int]]:
    """The question's counts for (key, time) queries, of events (key, time)."""
    keys, times = (np.array([query[i] for query in queries], np.int64) for i in (0, 1))
    table = CountTable(_counts([(key, time // question.bucket) for key, time in rows]))
    tables = {Component(question.by, events, question.bucket): table for events, _ in question.counts}
    return aggregates.answer(question, tables, keys, aggregates.moments_of(question, times)).tolist()


def _question(bucket: int, lag: int, *backs: int | None) -> Question:
    return Question(("item",), bucket, lag, tuple((("click",), back) for back in backs))


ROWS = st.lists(st.tuples(st.integers(5, 8), st.integers(0, 20)), max_size=25)
QUERIES = st.lists(st.tuples(st.integers(4, 9), st.integers(-3, 25)), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(ROWS, QUERIES, st.integers(1, 4), st.none() | st.integers(1, 10), st.integers(0, 5))
def test_counts_equal_the_reference(rows: list[Any], queries: list[Any], bucket: int, back: int | None, lag: int) -> None:
    found = _asked(rows, _question(bucket, lag, back, None), queries)
    for (key, time), (within, ever) in zip(queries, found, strict=True):
        over = (time - lag) // bucket  # buckets that are over at time - lag
        past = [t // bucket for k, t in rows if k == key and t // bucket < over]
        assert ever == len(past)
        assert within == sum(back is None or number >= over - back for number in past)


def test_one_ms_buckets_count_exactly_what_is_strictly_before() -> None:
    rows = [(5, T0), (5, T0), (5, T0 + 1), (6, T0)]
    assert _asked(rows, _question(1, 0, None), [(5, T0), (5, T0 + 1), (5, T0 + 2)]) == [[0], [2], [3]]


def test_day_buckets_wait_for_the_day_to_end() -> None:
    at = [(5, T0 + time) for time in (1, DAY - 1, DAY)]
    assert _asked([(5, T0)], _question(DAY, 0, None), at) == [[0], [0], [1]]
    assert _asked([(5, T0)], _question(DAY, DAY, None), [(5, T0 + DAY), (5, T0 + 2 * DAY)]) == [[0], [1]]


def _ms(day: int, hour: int, minute: int = 0) -> int:
    return int(datetime.datetime(2026, 1, day, hour, minute, tzinfo=datetime.timezone.utc).timestamp() * 1000)


@pytest.mark.parametrize(
    ("options", "early", "late", "afternoon"),
    [
        ("window: 3d", [7, 8, 9], [7, 8, 9], [7, 8, 9]),
        ("window: 3d, lag: 6h", [6, 7, 8], [7, 8, 9], [7, 8, 9]),
        ("window: 36h", [8, 9], [8, 9], [8, 9]),
        ("window: 3d, bucket: 1h", [7, 8, 9], [7, 8, 9], [8, 9, 10]),
        ("window: 3d, lag: 6h, bucket: 1ms", [7, 8, 9], [7, 8, 9], [7, 8, 9]),
    ],
)
def test_the_table_of_the_docs(options: str, early: list[int], late: list[int], afternoon: list[int]) -> None:
    """docs/features.md: one click a day at 12:00, searches on 10 January at 05:00, 06:00 and 15:30."""
    of = plan(
        "dataset: d\ntasks: {buy: {events: [buy], window: 1d, primary: true}}\n"
        f"features: {{f: {{kind: numerical, level: item, aggregate: {{by: [item], event: click, {options}}}}}}}"
    )
    number, place = of.places("f")[0]
    searches = [(5, _ms(10, 5)), (5, _ms(10, 6)), (5, _ms(10, 15, 30))]
    counted: list[list[int]] = [[], [], []]
    for day in range(1, 16):
        for found, counts in zip(counted, _asked([(5, _ms(day, 12))], of.questions[number], searches), strict=True):
            found += [day] * counts[place]
    assert counted == [early, late, afternoon]


def test_a_window_that_is_no_whole_number_of_buckets_is_rounded_up() -> None:
    text = "dataset: d\ntasks: {b: {events: [b], window: 1d, primary: true}}\nfeatures: {f: {kind: numerical, level: item, aggregate: "
    known = {("36h", "1d"): 2, ("7d", "1h"): 168, ("1d", "1d"): 1, ("1h", "1d"): 1, ("90m", "1h"): 2, ("7d", "1ms"): 7 * DAY}
    for (window, bucket), back in known.items():
        of = plan(f"{text}{{by: [item], event: click, window: {window}, bucket: {bucket}}}}}}}")
        number, place = of.places("f")[0]
        assert of.questions[number].counts[place] == (("click",), back)


def test_keys_without_events_and_tables_without_any() -> None:
    assert _asked([], _question(1, 0, 5, None), [(5, T0), (PAD, T0)]) == [[0, 0], [0, 0]]
    assert aggregates.answer(_question(1, 0, None), {}, np.array([5]), np.array([T0])).tolist() == [[0]]


@pytest.mark.parametrize("distinct", [1, 400, 700_000])
def test_a_time_far_in_the_future_does_not_disturb_the_others(distinct: int) -> None:
    keys = np.arange(5, 5 + distinct)
    far = 32_000_000_000_000  # with 700,000 keys, key x ms is more than 64 bits hold
    counts = {"key": np.append(keys, 5), "bucket": np.append(T0 + keys, far), "count": np.ones(distinct + 1, np.int64)}
    table, question = CountTable(pa.table(counts)), _question(1, 0, None, 1)
    for at, both in ((0, [0, 0]), (1, [1, 1]), (2, [1, 0])):
        found = aggregates.answer(question, {CLICKS: table}, keys, T0 + keys + at)
        assert (found == both).all(), at
    assert aggregates.answer(question, {CLICKS: table}, keys[:1], np.array([far + 1])).tolist() == [[2, 1]]


def test_counts_of_partitions_add_up() -> None:
    component = Component(("item",), ("click", "impression"), 1000)
    parts = [
        aggregates.partial_counts(component, impressions(shown("s", 0, ["a", "b"]), PLAN), engagements(events, PLAN), PLAN)
        for events in ([done("click", 5, "a"), done("click", 999, "a")], [done("purchase", 5, "a")])
    ]
    assert [sorted(part.column("count").to_pylist()) for part in parts] == [[1, 3], [1, 1]]
    both = pa.concat_tables(parts)
    question = Question(("item",), 1000, 0, ((("click", "impression"), None),))
    keys = np.array(both.column("key").to_pylist()[:2])
    found = aggregates.answer(question, {component: CountTable(both)}, keys, np.full(2, T0 // 1000 + 1))
    assert found.tolist() == [[4], [2]], "a: 2 clicks and 2 impressions, b: 2 impressions"


def test_keys_of_null_parts_are_not_counted() -> None:
    rows = impressions([*shown("s", 0, ["a"], None), *shown("t", 0, ["a"], "u")], PLAN)
    component = Component(("customer", "item"), ("impression",), 1)
    found = aggregates.partial_counts(component, rows, engagements([], PLAN), PLAN)
    assert found.column("count").to_pylist() == [1]


def test_smoothed_rate_by_hand() -> None:
    aggregate = Aggregate(by=("item",), event="click", per="impression", prior=2, window="all", bucket="1ms")
    counts = [np.array(values) for values in ([2, 1, 0, 0, 0], [3, 1, 0, 0, 0], [3, 3, 3, 3, 0], [4, 4, 4, 4, 0])]
    found = aggregates.rate(aggregate, counts, np.array([True, True, True, False, True]))
    base = 3 / 4
    np.testing.assert_allclose(found, [(2 + 2 * base) / 5, (1 + 2 * base) / 3, 2 * base / 2, np.nan, 0.0])


def test_a_rate_without_prior_or_denominator_is_missing() -> None:
    aggregate = Aggregate(by=("item",), event="click", per="impression", prior=0, bucket="1ms")
    assert np.isnan(aggregates.rate(aggregate, [np.zeros(1)] * 4, np.array([True]))).all()


def test_a_plain_count_of_an_unknown_key_is_missing() -> None:
    aggregate = Aggregate(by=("item",), event="click", bucket="1ms")
    np.testing.assert_array_equal(aggregates.rate(aggregate, [np.array([3, 0])], np.array([True, False])), [3, np.nan])


def test_two_part_keys_depend_on_the_order_of_parts() -> None:
    columns = {"item": np.array([11, 12]), "query": np.array([12, 11])}
    keys = aggregates.keys_of(("item", "query"), columns, 2)
    assert keys[0] != keys[1] and (keys > 0).all()
    assert aggregates.keys_of((), columns, 2).tolist() == [aggregates.ALL] * 2
    assert aggregates.keys_of(("item", "query"), {"item": np.array([11]), "query": np.array([PAD])}, 1).tolist() == [PAD]


def test_distinct_pairs_are_in_the_order_of_their_first_rows() -> None:
    codes, first = aggregates.distinct_pairs(np.array([7, 5, 7, 7, 5]), np.array([1, 1, 2, 1, 1]))
    assert codes.tolist() == [0, 1, 2, 0, 1] and first.tolist() == [0, 1, 2]


def test_an_engagement_with_a_query_counts_for_the_query_of_its_impression() -> None:
    events = engagements([done("click", 5, "a")], PLAN).append_column("query", pa.array(np.array([77])))
    rows = impressions(shown("s", 0, ["a"], query="q"), PLAN)
    found = aggregates.partial_counts(Component(("query",), ("click",), 1), rows, events, PLAN)
    assert found.column("key").to_pylist() == [77]


# What a spec asks for -------------------------------------------------------------------------------------------------------------


def test_questions_components_and_places_of_the_tiny_spec() -> None:
    questions = [(q.by, q.bucket, q.lag, q.counts) for q in PLAN.questions]
    both = ((("click",), None), (("impression",), None))
    assert questions == [
        (("item",), 1, 0, both),  # item_clicks and the rate's own counts
        ((), 1, 0, both),  # the rate's base
        (("query",), 1, 0, both[:1]),
        (("customer", "item"), 1, 0, both[:1]),
        (("item",), HOUR, 0, ((("purchase",), None),)),  # the popularity, by the hour
    ]
    assert [(q.local, q.per_item) for q in PLAN.questions] == [(False, True), (False, False), (False, False), (True, True), (False, True)]
    assert PLAN.places("item_clicks") == [(0, 0)]
    assert PLAN.places("item_rate") == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert PLAN.places("query_clicks") == [(2, 0)] and PLAN.places("own_clicks") == [(3, 0)]
    assert PLAN.popularity == (4, 0)
    assert [(c.by, c.events, c.bucket) for c in PLAN.components] == [
        (("item",), ("click",), 1),
        (("item",), ("impression",), 1),
        ((), ("click",), 1),
        ((), ("impression",), 1),
        (("query",), ("click",), 1),
        (("customer", "item"), ("click",), 1),
        (("item",), ("purchase",), HOUR),
    ]
    assert PLAN.needs_query and PLAN.needs_items and PLAN.exchanges


def test_windows_of_one_grain_and_lag_are_asked_together() -> None:
    text = """
dataset: d
tasks: {buy: {events: [buy, order], window: 1d, primary: true}}
features:
  week: {kind: numerical, level: item, aggregate: {by: [item], event: click, window: 7d}}
  month: {kind: numerical, level: item, aggregate: {by: [item], event: click, window: 30d}}
  again: {kind: numerical, level: item, aggregate: {by: [item], event: click, window: 7d}}
  late: {kind: numerical, level: item, aggregate: {by: [item], event: click, window: 7d, lag: 1d}}
  rate: {kind: numerical, level: item, aggregate: {by: [item], event: buy, per: click, window: 7d}}
"""
    of = plan(text)
    assert [(q.by, q.bucket, q.lag, q.counts) for q in of.questions] == [
        (("item",), DAY, 0, ((("click",), 7), (("click",), 30), (("buy",), 7))),
        (("item",), DAY, DAY, ((("click",), 7),)),
        ((), DAY, 0, ((("buy",), 7), (("click",), 7))),
        (("item",), HOUR, 0, ((("buy", "order"), None),)),
    ]
    assert [of.places(name) for name in ("week", "month", "again", "late")] == [[(0, 0)], [(0, 1)], [(0, 0)], [(1, 0)]]
    assert of.places("rate") == [(0, 2), (0, 0), (2, 0), (2, 1)]
    assert Component(("item",), ("click",), DAY) in of.components and len(of.components) == 5


def test_without_popularity_and_aggregates_nothing_is_asked() -> None:
    text = """
dataset: d
tasks: {b: {events: [b], window: 1d, primary: true}}
features: {p: {kind: numerical, level: item, from: impression.p}}
"""
    of = plan(text, popularity_bucket=None)
    assert (of.questions, of.components, of.popularity, of.exchanges) == ((), (), None, False)
    assert plan(text).exchanges and plan(text, popularity_bucket=1).questions[0].bucket == 1
