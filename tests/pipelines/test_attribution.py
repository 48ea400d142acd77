"""Attribution: every rule by hand, and random logs against a reference that looks at all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.transforms import hash_strings
from pipelines.attribution import attribute
from pipelines.settings import Plan
from tests.pipelines.logs import DAY, HOUR, MINUTE, SPEC, T0, done, engagements, impressions, plan, shown

PLAN = plan()
PLANS = {rule: plan(SPEC.replace("window: 1h}", f"window: 1h, credit: {rule}}}").replace("1d, ", f"1d, credit: {rule}, "))
         for rule in ("last", "first", "all")}  # fmt: skip


def _delays(
    rows: list[dict[str, Any]], events: list[dict[str, Any]], of: Plan = PLAN
) -> tuple[dict[tuple[str, str], tuple[int, int]], dict[str, Any]]:
    """{(search, item): (delay of the click, delay of the purchase)} of the impressions that have one, and the counts."""
    found = attribute(impressions(rows, of), engagements(events, of), of)
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


THRICE = shown("s1", 0, ["a"]) + shown("s2", 30 * MINUTE, ["a"]) + shown("s3", 50 * MINUTE, ["a"])
CREDITED = {
    "all three are in the window": (
        [done("click", HOUR, "a")],
        {"last": {"s3": 10 * MINUTE}, "first": {"s1": HOUR}, "all": {"s1": HOUR, "s2": 30 * MINUTE, "s3": 10 * MINUTE}},
    ),
    "the first one is out of the window by a millisecond": (
        [done("click", HOUR + 1, "a")],
        {"last": {"s3": 10 * MINUTE + 1}, "first": {"s2": 30 * MINUTE + 1}, "all": {"s2": 30 * MINUTE + 1, "s3": 10 * MINUTE + 1}},
    ),
    "an engagement is never credited to a later impression": (
        [done("click", 40 * MINUTE, "a")],
        {"last": {"s2": 10 * MINUTE}, "first": {"s1": 40 * MINUTE}, "all": {"s1": 40 * MINUTE, "s2": 10 * MINUTE}},
    ),
    "a search id leaves one candidate": (
        [done("click", HOUR, "a", search_id="s2")], dict.fromkeys(("last", "first", "all"), {"s2": 30 * MINUTE}),
    ),
    "each engagement on its own": (
        [done("click", MINUTE, "a"), done("click", 51 * MINUTE, "a")],
        {"last": {"s1": MINUTE, "s3": MINUTE}, "first": {"s1": MINUTE}, "all": {"s1": MINUTE, "s2": 21 * MINUTE, "s3": MINUTE}},
    ),
    "nothing in the window": ([done("click", 2 * HOUR, "a")], {"last": {}, "first": {}, "all": {}}),
}  # fmt: skip


@pytest.mark.parametrize("rule", PLANS)
@pytest.mark.parametrize("name", CREDITED)
def test_credit(name: str, rule: str) -> None:
    events, expected = CREDITED[name]
    found, counts = _delays(THRICE, events, PLANS[rule])
    assert {search: delays[0] for (search, _), delays in found.items()} == expected[rule]
    assert counts["click"]["labels"] == {r: len(credited) for r, credited in expected.items()}, "counted whatever the rule"


@pytest.mark.parametrize(("rule", "rows"), [("last", [0]), ("first", [0]), ("all", [0, 2])])
def test_the_same_item_twice_in_a_list_credits_the_smaller_position(rule: str, rows: list[int]) -> None:
    shown_rows = impressions(shown("s1", 0, ["a", "b", "a"]), PLANS[rule])
    for events in ([done("click", MINUTE, "a")], [done("click", 1, "a", search_id="s1")]):
        found = attribute(shown_rows, engagements(events, PLANS[rule]), PLANS[rule])
        assert np.flatnonzero(found.delay[:, 0] >= 0).tolist() == rows
        assert found.credited.tolist() == [0]


def test_two_searches_in_one_ms_credit_the_greater_hash_of_the_search_id_in_any_order() -> None:
    names = ["s1", "s2", "s3"]
    greatest = names[int(np.argmax(hash_strings(names).numpy()))]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        rows = [row for index in order for row in shown(names[index], 0, ["a"])]
        for rule in ("last", "first"):
            assert list(_delays(rows, [done("click", 5, "a")], PLANS[rule])[0]) == [(greatest, "a")]


def test_counts_say_what_became_of_each_engagement() -> None:
    events = [
        done("click", MINUTE, "a"),
        done("click", 2 * DAY, "a"),
        done("click", MINUTE, "z"),
        done("purchase", 1, "b"),
    ]
    _, counts = _delays(TWICE[:2], events)
    assert counts["click"] == {
        "attributed": 1,
        "out_of_window": 1,
        "unattributed": 1,
        "labels": {"last": 1, "first": 1, "all": 1},
        "delay_histogram": {"63096": 1, "199526231": 1},
    }
    assert counts["purchase"]["attributed"] == 1


def test_rows_of_another_owner_take_part_but_are_not_counted() -> None:
    shown_rows, done_rows = impressions(THRICE, PLAN), engagements([done("click", HOUR, "a"), done("click", 1, "a")], PLAN)
    whole = attribute(shown_rows, done_rows, PLAN)
    part = attribute(shown_rows, done_rows, PLAN, (np.array([True, False, False]), np.array([True, False])))
    np.testing.assert_array_equal(part.delay, whole.delay)
    assert whole.counts["click"]["attributed"] == 2 and part.counts["click"]["attributed"] == 1
    assert part.counts["click"]["labels"] == {"last": 1, "first": 1, "all": 1}, "of the first impression"


def test_the_credited_impression_lies_within_the_longest_window() -> None:
    shown_rows = impressions(shown("s1", 0, ["a"]), PLAN)
    events = [done("click", time, "a") for time in (HOUR + 1, DAY, DAY + 1)]
    assert attribute(shown_rows, engagements(events, PLAN), PLAN).credited.tolist() == [0, 0, -1]


def test_no_impressions_and_no_engagements() -> None:
    empty_rows, empty_events = impressions([], PLAN), engagements([], PLAN)
    one = engagements([done("click", 0, "a")], PLAN)
    found = attribute(empty_rows, one, PLAN)
    assert found.credited.tolist() == [-1] and found.counts["click"]["unattributed"] == 1
    assert (attribute(impressions(TWICE, PLAN), empty_events, PLAN).delay == -1).all()
    assert attribute(empty_rows, empty_events, PLAN).delay.shape == (0, 2)


def test_a_time_far_in_the_future_does_not_disturb_the_others() -> None:
    late = 32_000_000_000_000 - T0
    events = [done("click", MINUTE, "a"), done("click", late, "b"), *(done("click", late + i, f"x{i}") for i in range(50))]
    rows = TWICE[:2] + [row for i in range(50) for row in shown(f"t{i}", late, [f"x{i}"])]
    found, _ = _delays(rows, events)
    assert found == {("s1", "a"): (MINUTE, -1)} | {(f"t{i}", f"x{i}"): (i, -1) for i in range(50)}


def _reference(rows: list[dict[str, Any]], events: list[dict[str, Any]], rule: str) -> dict[tuple[int, int], int]:
    """{(row, task): delay} by looking at every pair."""
    found: dict[tuple[int, int], int] = {}
    rank = {row["search_id"]: int(hash_strings([row["search_id"]]).numpy()[0]) for row in rows}
    for event in events:
        key = "search_id" if event.get("search_id") else "customer_id"
        task, window = (0, HOUR) if event["event"] == "click" else (1, DAY)
        candidates = [i for i, row in enumerate(rows) if row["item_id"] == event["item_id"] and 0 <= event["time"] - row["time"] <= window]
        candidates = [i for i in candidates if event.get(key) is not None and rows[i][key] == event[key]]
        candidates.sort(key=lambda i: (rows[i]["time"] * (-1 if rule == "last" else 1), -rank[rows[i]["search_id"]], rows[i]["position"]))
        for i in candidates if rule == "all" else candidates[:1]:
            delay = event["time"] - rows[i]["time"]
            found[i, task] = min(delay, found.get((i, task), delay))
    return found


TIMES = st.sampled_from([0, 1, MINUTE, HOUR, HOUR + 1, 2 * HOUR, DAY, DAY + 1, 2 * DAY])
CUSTOMERS = st.sampled_from(["u", "v", None])
SEARCHES = st.lists(st.tuples(TIMES, CUSTOMERS, st.sampled_from([["a", "b"], ["b", "a", "c"], ["a", "a"]])), max_size=6)
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


@settings(max_examples=100, deadline=None)
@given(SEARCHES, EVENTS)
def test_equals_the_reference_under_every_rule(searches: list[Any], drawn: list[Any]) -> None:
    rows = [row for i, (time, customer, items) in enumerate(searches) for row in shown(f"s{i}", time, items, customer)]
    events = [
        done(event, time, item, customer, search_id=None if search is None else f"s{search}")
        for event, time, item, customer, search in drawn
    ]
    for rule, of in PLANS.items():
        delay = attribute(impressions(rows, of), engagements(events, of), of).delay
        found = {(int(i), int(task)): int(delay[i, task]) for i, task in np.argwhere(delay >= 0)}
        assert found == _reference(rows, events, rule), rule
