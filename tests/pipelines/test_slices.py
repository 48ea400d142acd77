"""Customers that are split by time: the same records and counts as without the split, however the slices fall."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.transforms import hash_strings
from pipelines.batches import described, to_bytes
from pipelines.counts import Counts
from pipelines.settings import plan_of
from pipelines.slices import Cut, find_cuts, part_name, place_of, slice_pieces, survey
from tests.pipelines.logs import DAY, HOUR, ITEMS, MINUTE, T0, done, engagements, impressions, plan, shown, small_log
from tests.pipelines.random_logs import EVENTS, REPEATS, SEARCHES, SPEC, again, engagements_of, impressions_of
from tests.pipelines.steps import Built, Log, Rows, run, steps_settings

WHOLE = 10**9


def _told(counts: Counts) -> Counts:
    """What must not depend on slices: not whether an engagement came too late for its last impression or had none."""
    attribution = {}
    for task, found in counts["attribution"].items():
        missed = found["out_of_window"] + found["unattributed"]
        attribution[task] = {"missed": missed, **{key: found[key] for key in ("attributed", "labels", "duplicate")}}
    kept = {key: counts[key] for key in ("duplicates", "lists", "rows", "last_time", "splits") if key in counts}
    return {**kept, "attribution": attribution}


def _alike(log: Log, spec: str, split_rows: int, **changes: Any) -> tuple[Built, Built]:
    """The builds without and with split customers, which must agree."""
    whole, sliced = (run(log, steps_settings(spec, split_rows=rows, **changes)) for rows in (WHOLE, split_rows))
    assert whole.counts["partitions"] == {"split_customers": 0}
    assert _told(sliced.counts) == _told(whole.counts)
    assert sliced.records == whole.records
    return whole, sliced


@pytest.mark.parametrize("split_rows", [20, 7, 2])
def test_the_tiny_log_with_every_customer_split(split_rows: int) -> None:
    whole, sliced = _alike(Log.of(*small_log(), ITEMS), steps_settings().spec_text, split_rows, test_from=T0 + 2 * DAY)
    assert len(whole.records) == 28 and sliced.counts["partitions"] == {"split_customers": 5}


# Cases that a slice could get wrong, every one with a slice per time -----------------------------------------------------------------


def _delays(built: Built) -> dict[str, dict[str, list[int]]]:
    """{search: {task: minutes to the engagement of each item, -1 without one}}"""
    found, tasks = built.columns(), list(plan_of(built.settings).tasks)
    ends = np.cumsum(found.lengths)
    minutes = np.where(found.delay >= 0, found.delay // MINUTE, -1)
    return {
        search.decode(): {task: minutes[end - length : end, place].tolist() for place, task in enumerate(tasks)}
        for search, end, length in zip(found.search_id, ends, found.lengths, strict=True)
    }


def _alone(rows: Rows, events: Rows, **changes: Any) -> tuple[Built, Built]:
    log = Log([("impressions", [{"device": "d", "query": "q", "price": 1.0, **row} for row in rows])])
    log = Log([*log.files, *([("engagements", events)] if events else []), ("items", ITEMS)])
    return _alike(log, SPEC, split_rows=1, log_end=T0 + 9 * DAY, **changes)


def test_a_list_that_was_shown_over_hours_stays_whole_in_the_slice_of_its_earliest_impression() -> None:
    rows = shown("s1", 0, ["a", "b", "c"])
    for row, hour in zip(rows, (17, 0, 9), strict=True):
        row["time"] += hour * HOUR
    events = [done("click", 17 * HOUR + 30 * MINUTE, "a"), done("click", 20 * MINUTE, "b"), done("cart", 9 * HOUR + 9 * MINUTE, "c")]
    whole, _ = _alone([*rows, *shown("s2", 5 * HOUR, ["a"])], events)
    nothing = {"click": [-1], "cart": [-1], "purchase": [-1]}
    assert _delays(whole) == {"s1": {"click": [30, 20, -1], "cart": [-1, -1, 9], "purchase": [-1] * 3}, "s2": nothing}
    assert whole.columns().time.tolist() == [T0, T0 + 5 * HOUR]


def test_a_copy_of_an_earlier_impression_takes_no_credit_from_a_later_one() -> None:
    rows = [*shown("s1", 0, ["a"]), *shown("s1", 3 * HOUR + 30 * MINUTE, ["a"]), *shown("s2", 8 * HOUR, ["a"])]
    whole, sliced = _alone(rows, [done("purchase", 8 * HOUR + 6 * MINUTE, "a")])  # 3:30 is within 5 h of it, 0:00 is not
    assert [found["purchase"] for found in _delays(whole).values()] == [[-1], [6]]
    assert sliced.counts["duplicates"] == {"impressions": 1, "engagements": 0}


def test_late_copies_of_engagements_push_nothing_out_of_histories() -> None:
    first = [done("click", hour * HOUR, item, event_id=item) for hour, item in enumerate("zabc")]
    late = [done("click", 20 * HOUR, "d"), *({**event, "time": event["time"] + 60 * HOUR} for event in first[:3])]
    rows = shown("s", 70 * HOUR, ["a"], device="d", query="q", price=1.0)
    log = Log([("impressions", rows), ("engagements", first), ("engagements", late)])
    whole, sliced = _alike(log, SPEC, split_rows=1, log_end=T0 + 9 * DAY)
    past = whole.columns().sequences["recent"]
    assert past.item.tolist() == hash_strings(["d", "c", "b"]).numpy().tolist()
    assert past.age.tolist() == [50 * 3600, 67 * 3600, 68 * 3600]
    assert sliced.counts["duplicates"]["engagements"] == 3 and sliced.counts["attribution"]["click"]["duplicate"] == 3


def test_slices_without_impressions_and_customers_without_any() -> None:
    events = [done("click", i * HOUR, "a") for i in range(6)] + [done("click", i * HOUR, "a", "mute") for i in range(6)]
    whole, sliced = _alone(shown("s", 30 * MINUTE, ["a"]), events)
    assert sliced.counts["partitions"] == {"split_customers": 2}
    assert whole.counts["attribution"]["click"]["attributed"] == 1 and _delays(whole)["s"]["click"] == [30]


def test_counts_by_customer_reach_over_slices() -> None:
    events = [done("click", 10 * MINUTE + i * HOUR, "a") for i in range(5)]
    rows = [row for i in range(5) for row in shown(f"s{i}", i * HOUR, ["a"])]
    whole, _ = _alone(rows, events)
    names = [feature.name for feature in plan_of(whole.settings).spec.select(kind="numerical", level="item", stored=True)]
    assert whole.columns().item_num[:, names.index("own")].tolist() == [0, 1, 2, 2, 2], "clicks of the last two hours"


def test_an_engagement_whose_last_impression_lies_beyond_the_window_counts_as_unattributed() -> None:
    events = [done("click", 50 * MINUTE, "a"), done("purchase", 6 * HOUR, "a"), done("share", 7 * HOUR, "a"), done("cart", 8 * HOUR, "z")]
    log = Log.of(shown("s", 0, ["a"], device="d", query="q", price=1.0), events)
    whole, sliced = (run(log, steps_settings(SPEC, split_rows=rows, log_end=T0 + 9 * DAY)) for rows in (WHOLE, 1))
    assert whole.records == sliced.records
    found = [[built.counts["attribution"][task][key] for key in ("out_of_window", "unattributed")] for built in (whole, sliced)
             for task in ("click", "purchase")]  # fmt: skip
    assert found == [[1, 0], [1, 0], [1, 0], [0, 1]], "the click's is within the longest window of 5 h, the purchase's is not"
    assert whole.counts["attribution"]["purchase"]["delay_histogram"] and not sliced.counts["attribution"]["purchase"]["delay_histogram"]


# Where customers are cut ----------------------------------------------------------------------------------------------------------


def _pieces(rows: Rows, events: Rows) -> list[bytes]:
    of = plan(SPEC)
    return [to_bytes("impressions", impressions(rows, of)), to_bytes("engagements", engagements(events, of))]


def test_customers_above_the_limit_are_cut_at_the_quantiles_of_their_times() -> None:
    rows = [row for i in range(9) for row in shown(f"s{i}", i * HOUR, ["a"], "hot")] + shown("t", 0, ["a", "b", "c"], "cold")
    pieces = _pieces([*rows, *shown("n", 0, list("abcdefgh"), None)], [done("click", 9 * HOUR, "a", "hot")])
    (cut,) = find_cuts(pieces, 4)
    assert cut.customer == hash_strings(["hot"]).numpy()[0]
    assert cut.starts[1:].tolist() == [T0 + 3 * HOUR, T0 + 6 * HOUR], "10 rows, so 3 slices"
    assert cut.slice_at(T0 + np.array([-DAY, 0, 3 * HOUR - 1, 3 * HOUR, 6 * HOUR, 99 * DAY])).tolist() == [0, 0, 0, 1, 2, 2]
    assert [len(cuts) for cuts in (find_cuts(pieces, 9), find_cuts(pieces, 10), find_cuts(pieces, 100))] == [1, 0, 0]


def test_customers_whose_rows_all_have_one_time_are_not_cut_further() -> None:
    (cut,) = find_cuts(_pieces(shown("s", 0, list("abcdefgh")), []), 2)
    assert cut.starts[1:].tolist() == [T0]


def test_slices_hold_what_they_own_and_little_more() -> None:
    rows = [row for i in range(100) for row in shown(f"s{i}", i * HOUR, ["a", "b"])]
    events = [done("purchase", i * HOUR + 1, "a") for i in range(100)]
    pieces, of = _pieces(rows, events), plan(SPEC)
    cuts = find_cuts(pieces, 100)
    splits, counts = survey(pieces, cuts, of)
    assert counts["duplicates"] == {"impressions": 0, "engagements": 0}
    held = [(place_, *described(piece)) for place_, piece in slice_pieces(0, pieces, splits, of)]
    second = {name: size for place_, name, size in held if place_ == place_of(0, cuts[0], 1)}
    # 300 rows in 3 slices; the second one owns hours 33 to 65 of 33.0 to 66.0, so the window of 5 h adds hours 28 to 32 and 66 to 70, and
    # the histories of 3 and of 2 events the purchases of hours 25 to 27.
    assert second == {"impressions": 66, "near": 2 * (5 + 5), "engagements": 33 + 3 + 5 + 5}


def test_slices_have_places_and_file_names_of_their_own() -> None:
    cuts = [Cut(number, 5, np.zeros(1, np.int64)) for number in range(3)]
    places = {place_of(partition, cut, number) for partition in range(3) for cut in cuts for number in range(4)}
    assert len(places) == 36 and min(places) > 2**39
    assert part_name(7) == "00007" and part_name(place_of(3, cuts[2], 11)) == "00003-c2-s11"


# Random logs ----------------------------------------------------------------------------------------------------------------------

def _log(searches: list[Any], drawn: list[Any], repeats: list[Any], files: int) -> Log:
    """A log in several files."""
    rows = impressions_of(searches)
    contents = {"impressions": [*rows, *again(rows, repeats)], "engagements": engagements_of(drawn, searches)}
    parts = [(name, part[place::files]) for name, part in contents.items() for place in range(files)]
    return Log([(name, part) for name, part in parts if part] + [("items", ITEMS)])


@settings(max_examples=35, deadline=None)
@given(SEARCHES, EVENTS, REPEATS, st.integers(1, 3), st.integers(1, 12), st.integers(0, 5))
def test_random_logs(searches: list[Any], drawn: list[Any], repeats: list[Any], files: int, split_rows: int, rules: int) -> None:
    orders = [("last", "all", "first"), ("first", "last", "all"), ("all", "first", "last")]
    spec = SPEC
    for task, rule in zip(("40m", "10m", "5h"), orders[rules % 3], strict=True):
        old = {"40m": "last", "10m": "all", "5h": "first"}[task]
        spec = spec.replace(f"window: {task}, credit: {old}", f"window: {task}, credit: {rule}")
    if rules > 2:
        spec = spec.replace("5h", "20h")
    _alike(_log(searches, drawn, repeats, files), spec, split_rows, log_end=T0 + 9 * DAY, partitions=2)
