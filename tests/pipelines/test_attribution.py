"""Attribution: every rule by hand, and random logs against a reference that looks at all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.transforms import hash_strings
from pipelines.attribution import credit, label, last_before
from tests.pipelines.logs import DAY, HOUR, MINUTE, T0, done, engagements, impressions, plan, shown

PLAN = plan()


def _delays(
    rows: list[dict[str, Any]], events: list[dict[str, Any]]
) -> tuple[dict[tuple[str, str], tuple[int, int]], dict[str, Any]]:
    """{(search, item): (delay of the click, delay of the purchase)} of the impressions that have one, and the counts."""
    shown_rows, done_rows = impressions(rows, PLAN), engagements(events, PLAN)
    found = label(shown_rows, done_rows, credit(shown_rows, done_rows), PLAN)
    keys = [(row["search_id"], row["item_id"]) for row in rows]
    pairs = {k: (int(d[0]), int(d[1])) for k, d in zip(keys, found.delay, strict=True) if (d >= 0).any()}
    return pairs, found.counts


TWICE = shown("s1", 0, ["a", "b"]) + shown("s2", 10 * MINUTE, ["a", "b"])

RULES = {
    "search id wins over recency": (TWICE, [done("click", 20 * MINUTE, "a", search_id="s1")], {("s1", "a"): (20 * MINUTE, -1)}),
    "without search id the last impression": (TWICE, [done("click", 20 * MINUTE, "a")], {("s2", "a"): (10 * MINUTE, -1)}),
    "impression at the same ms counts": (TWICE, [done("click", 10 * MINUTE, "a")], {("s2", "a"): (0, -1)}),
    "one ms before the second": (TWICE, [done("click", 10 * MINUTE - 1, "a")], {("s1", "a"): (10 * MINUTE - 1, -1)}),
    "window's last ms is inside": (TWICE[:2], [done("click", HOUR, "a")], {("s1", "a"): (HOUR, -1)}),
    "one ms later is outside": (TWICE[:2], [done("click", HOUR + 1, "a")], {}),
    "windows differ by task": (TWICE[:2], [done("purchase", DAY, "a"), done("click", 2 * HOUR, "a")], {("s1", "a"): (-1, DAY)}),
    "tomorrow's purchase of today's impression": (
        shown("s1", 23 * HOUR, ["a"]), [done("purchase", 30 * HOUR, "a")], {("s1", "a"): (-1, 7 * HOUR)},
    ),
    "out of window does not go to an earlier one": (
        TWICE, [done("click", 10 * MINUTE + HOUR + 1, "a"), done("click", 10 * MINUTE + HOUR + 1, "a", search_id="s1")], {},
    ),
    "before any impression": (TWICE, [done("click", -1, "a")], {}),
    "an item that the search did not show": (TWICE, [done("click", MINUTE, "z", search_id="s1")], {}),
    "an unknown search id has no fallback": (TWICE, [done("click", MINUTE, "a", search_id="s9")], {}),
    "another customer": (TWICE, [done("click", MINUTE, "a", customer="v")], {}),
    "no customer and no search id": (shown("s1", 0, ["a"], None), [done("click", MINUTE, "a", customer=None)], {}),
    "no customer but a search id": (
        shown("s1", 0, ["a"], None), [done("click", MINUTE, "a", customer=None, search_id="s1")], {("s1", "a"): (MINUTE, -1)},
    ),
    "the first of several engagements sets the delay": (
        TWICE[:2], [done("click", 9 * MINUTE, "a"), done("click", 3 * MINUTE, "a")], {("s1", "a"): (3 * MINUTE, -1)},
    ),
    "a feed impression takes the credit": (
        shown("s1", 0, ["a"]) + shown("f1", MINUTE, ["a"], domain="feed"), [done("click", 2 * MINUTE, "a")], {("f1", "a"): (MINUTE, -1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    rows, events, expected = RULES[name]
    assert _delays(rows, events)[0] == expected


def test_the_same_item_twice_in_a_list_credits_the_smaller_position() -> None:
    rows = shown("s1", 0, ["a", "b", "a"])
    shown_rows, done_rows = (
        impressions(rows, PLAN),
        engagements([done("click", MINUTE, "a"), done("click", 1, "a", search_id="s1")], PLAN),
    )
    assert credit(shown_rows, done_rows).tolist() == [0, 0]


def test_two_searches_in_one_ms_credit_the_greater_hash_of_the_search_id_in_any_order() -> None:
    names = ["s1", "s2", "s3"]
    greatest = names[int(np.argmax(hash_strings(names).numpy()))]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        rows = [row for index in order for row in shown(names[index], 0, ["a"])]
        assert list(_delays(rows, [done("click", 5, "a")])[0]) == [(greatest, "a")]


def test_counts_say_what_became_of_each_engagement() -> None:
    events = [
        done("click", MINUTE, "a"),
        done("click", 2 * DAY, "a"),
        done("click", MINUTE, "z"),
        done("purchase", 1, "b"),
    ]
    _, counts = _delays(TWICE[:2], events)
    assert {k: v for k, v in counts["click"].items() if k != "delay_histogram"} == {
        "attributed": 1,
        "out_of_window": 1,
        "unattributed": 1,
    }
    assert counts["purchase"]["attributed"] == 1
    assert counts["click"]["delay_histogram"] == {"63096": 1, "199526231": 1}


def test_no_impressions_and_no_engagements() -> None:
    empty_rows, empty_events = impressions([], PLAN), engagements([], PLAN)
    one = engagements([done("click", 0, "a")], PLAN)
    assert credit(empty_rows, one).tolist() == [-1]
    assert label(empty_rows, one, credit(empty_rows, one), PLAN).counts["click"]["unattributed"] == 1
    shown_rows = impressions(TWICE, PLAN)
    assert (label(shown_rows, empty_events, credit(shown_rows, empty_events), PLAN).delay == -1).all()


def _reference(rows: list[dict[str, Any]], events: list[dict[str, Any]]) -> dict[tuple[str, str, int], int]:
    """{(search, item, task): delay} by looking at every pair."""
    found: dict[tuple[str, str, int], int] = {}
    rank = {row["search_id"]: int(hash_strings([row["search_id"]]).numpy()[0]) for row in rows}
    for event in events:
        same = [r for r in rows if r["item_id"] == event["item_id"] and r["time"] <= event["time"]]
        key = "search_id" if event.get("search_id") else "customer_id"
        same = [r for r in same if event.get(key) is not None and r[key] == event[key]]
        if same:
            row = max(same, key=lambda r: (r["time"], rank[r["search_id"]], -r["position"]))
            task, window = (0, HOUR) if event["event"] == "click" else (1, DAY)
            delay = event["time"] - row["time"]
            if delay <= window:
                place = (row["search_id"], row["item_id"], task)
                found[place] = min(delay, found.get(place, delay))
    return found


TIMES = st.sampled_from([0, 1, MINUTE, HOUR, HOUR + 1, 2 * HOUR, DAY, DAY + 1, 2 * DAY])
CUSTOMERS = st.sampled_from(["u", "v", None])
SEARCHES = st.lists(st.tuples(TIMES, CUSTOMERS, st.permutations(["a", "b", "c"])), max_size=6)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["click", "purchase"]),
        TIMES,
        st.sampled_from(["a", "b", "d"]),
        CUSTOMERS,
        st.none() | st.integers(0, 6),
    ),
    max_size=10,
)


@settings(max_examples=120, deadline=None)
@given(SEARCHES, EVENTS)
def test_equals_the_reference(searches: list[Any], drawn: list[Any]) -> None:
    rows = [row for i, (time, customer, items) in enumerate(searches) for row in shown(f"s{i}", time, items, customer)]
    events = [
        done(event, time, item, customer, search_id=None if search is None else f"s{search}")
        for event, time, item, customer, search in drawn
    ]
    shown_rows, done_rows = impressions(rows, PLAN), engagements(events, PLAN)
    delay = label(shown_rows, done_rows, credit(shown_rows, done_rows), PLAN).delay
    found = {
        (row["search_id"], row["item_id"], task): int(delay[i, task])
        for i, row in enumerate(rows)
        for task in range(2)
        if delay[i, task] >= 0
    }
    assert found == _reference(rows, events)


def test_last_before_by_hand() -> None:
    keys, times = np.array([1, 1, 2]), np.array([T0, T0 + 5, T0])
    ties = (np.zeros(3, np.int64),)
    found = last_before(keys, times, ties, np.array([1, 1, 1, 2, 3]), np.array([T0 - 1, T0, T0 + 9, T0 + 1, T0]))
    assert found.tolist() == [-1, 0, 1, 2, -1]
