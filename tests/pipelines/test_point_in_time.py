"""Features know only what was before their list, and records do not depend on the order of rows, files or copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.records import ListColumns
from cvr.schema import Feature
from pipelines.settings import plan_of
from tests.pipelines.logs import DAY, HOUR, ITEMS, MINUTE, T0, done, shown
from tests.pipelines.random_logs import EVENT, EVENTS, SEARCHES, SPEC, engagements_of, impressions_of
from tests.pipelines.steps import Built, Log, Rows, run, steps_settings

LOG_END = T0 + 9 * DAY
POPULARITY = HOUR


def _build(rows: Rows, events: Rows) -> Built:
    return run(Log.of(rows, events, ITEMS), steps_settings(SPEC, partitions=2, log_end=LOG_END, popularity_bucket=POPULARITY))


# Point in time --------------------------------------------------------------------------------------------------------------------


def _known_until(feature: Feature, time: int) -> int:
    """The first ms that a feature of a list at a time must know nothing of; what stands in the list's own rows is always known."""
    if feature.aggregate is None:
        return time if feature.history else 0
    return (time - feature.aggregate.lag) // feature.aggregate.bucket * feature.aggregate.bucket


def _values(columns: ListColumns, features: tuple[Feature, ...], place: int) -> dict[str, Any]:
    """Everything in one list's record but labels and delays, by feature."""
    start = int(columns.lengths[:place].sum())
    rows = slice(start, start + int(columns.lengths[place]))
    found: dict[str, Any] = {"item": columns.item[rows].tolist(), "position": columns.position[rows].tolist()}
    found[""] = columns.popularity[rows].tolist()
    for level, matrix, where in (("context", columns.context_num, place), ("item", columns.item_num, rows)):
        names = [feature.name for feature in features if feature.kind == "numerical" and feature.level == level]
        found |= {name: repr(matrix[where, column].tolist()) for column, name in enumerate(names)}
    found |= {name: ids[place if len(ids) == len(columns.time) else rows].tolist() for name, ids in columns.cat.items()}
    for name, events in columns.sequences.items():
        first = int(events.lengths[:place].sum())
        past = slice(first, first + int(events.lengths[place]))
        found[name] = events.item[past].tolist(), events.action[past].tolist(), events.age[past].tolist()
    return found


def _check_unchanged(before: Built, after: Built, changed_from: int) -> int:
    """Compares the lists that are in both, as far as they could know only what was before the first change; gives the number of values."""
    features = plan_of(before.settings).spec.select(stored=True)
    columns, keys = (before.columns(), after.columns()), (sorted(before.records), sorted(after.records))
    compared = 0
    for key in sorted(before.records.keys() & after.records.keys()):
        places = [found.index(key) for found in keys]
        time = int(columns[0].time[places[0]])
        values = [_values(one, features, place) for one, place in zip(columns, places, strict=True)]
        until = {feature.name: _known_until(feature, time) for feature in features} | {"": time // POPULARITY * POPULARITY}
        for name, value in values[0].items():
            if until.get(name, 0) <= changed_from:
                assert value == values[1][name], (key, name)
                compared += 1
    return compared


@settings(max_examples=30, deadline=None)
@given(SEARCHES, EVENTS, st.integers(0, 24 * 60), st.lists(EVENT, max_size=8), st.booleans(), st.booleans())
def test_changing_the_future_changes_no_feature(
    searches: list[Any], drawn: list[Any], minute: int, more: list[Any], moved: bool, emptied: bool
) -> None:
    rows, events = impressions_of(searches), engagements_of(drawn, searches)
    cut = T0 + minute * MINUTE
    late = [{**event, "time": max(event["time"], cut)} for event in engagements_of(more, searches)]
    if not emptied:  # the old ones of the future stay, or get another item, event and time
        late += [{**event, "time": event["time"] + 7 * moved, "item_id": "b"} for event in events if event["time"] >= cut]
    new = shown("new", cut - T0, ["a", "b", "c"], "hot", device="d", query="q0", price=1.0)
    later_rows = [] if emptied else [row for row in rows if row["time"] >= cut and row["search_id"] not in _open(rows, cut)]
    past_rows = [row for row in rows if row["time"] < cut or row["search_id"] in _open(rows, cut)]
    changed = _build([*past_rows, *later_rows, *new], [*(event for event in events if event["time"] < cut), *late])
    _check_unchanged(_build(rows, events), changed, cut)


def _open(rows: Rows, cut: int) -> set[str]:
    """Searches that began by a time: their own later impressions are part of their lists."""
    return {row["search_id"] for row in rows if row["time"] <= cut}


def test_what_the_check_compares_and_that_it_sees_a_leak() -> None:
    first, second = ({"device": "d", "query": "q0", "price": 1.0} for _ in range(2))
    rows = [*shown("s1", 0, ["a"], "hot", **first), *shown("s2", 90 * MINUTE, ["a"], "hot", **second)]
    events = [done("click", 10 * MINUTE, "a", "hot"), done("cart", 11 * MINUTE, "a", "hot"), done("purchase", 20 * MINUTE, "a", "hot")]
    built = _build(rows, events)
    features = plan_of(built.settings).spec.select(stored=True)
    values = _values(built.columns(), features, 1)
    assert len(values) == 12
    # s2 at 01:30 knows what was until then, of queries (30 minutes late, by the hour) and of the popularity what was until 01:00.
    for minute, compared in ((90, 12), (89, 12 - 5), (60, 12 - 5), (59, 12 - 7), (0, 12 - 7)):
        assert _check_unchanged(built, built, T0 + minute * MINUTE) == 12 + compared, minute
    for event, names in (("click", {"clicks", "own", "recent"}), ("cart", {"query"}), ("purchase", {"bought", "recent", "orders", ""})):
        found = _values(_build(rows, [one for one in events if one["event"] != event]).columns(), features, 1)
        assert {name for name in found if found[name] != values[name]} == names


# The order of rows and files ------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEARCHES, EVENTS, st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans())
def test_the_order_of_rows_files_and_copies_changes_no_record(
    searches: list[Any], drawn: list[Any], seed: int, files: int, twice: bool
) -> None:
    random = np.random.default_rng(seed)
    rows, events = impressions_of(searches), engagements_of(drawn, searches)
    whole = _build(rows, events)
    parts: list[tuple[str, Rows]] = [("items", ITEMS)]
    known = [event for event in events if event["event_id"] is not None]
    for name, content, copied in (("impressions", rows, rows), ("engagements", events, known)):
        content = [*content, *(copied if twice else [])]
        mixed = [content[place] for place in random.permutation(len(content))]
        parts += [(name, mixed[place::files]) for place in range(files) if mixed[place::files]]
    mixed_up = run(Log([parts[place] for place in random.permutation(len(parts))]), whole.settings)
    assert mixed_up.records == whole.records
    before, after = whole.counts["duplicates"], mixed_up.counts["duplicates"]
    assert after["impressions"] == before["impressions"] + twice * len(rows)
    assert after["engagements"] == before["engagements"] + twice * len(known)
    for task, names in (("click", ("click",)), ("cart", ("cart", "click")), ("purchase", ("purchase",))):
        mine, theirs = (dict(built.counts["attribution"][task]) for built in (mixed_up, whole))
        copies = sum(event["event"] in names for event in known)
        assert mine.pop("duplicate") == theirs.pop("duplicate") + twice * copies and mine == theirs


def test_a_file_that_stands_in_the_log_twice_is_counted_and_changes_nothing() -> None:
    rows = shown("s1", 0, ["a", "b"], device="d", query="q", price=1.0)
    events = [done("click", 5, "a", event_id="e1"), done("cart", 6, "b")]
    once = run(Log.of(rows, events, ITEMS), steps_settings(SPEC, log_end=LOG_END))
    again = run(Log([("impressions", rows), ("engagements", events[:1]), *Log.of(rows, events, ITEMS).files]), once.settings)
    assert again.records == once.records
    assert again.counts["duplicates"] == {"impressions": 2, "engagements": 1}
    found = {task: again.counts["attribution"][task]["duplicate"] for task in ("click", "cart", "purchase")}
    assert found == {"click": 1, "cart": 1, "purchase": 0}, "a click counts for the task cart, too"


def test_an_engagement_without_an_event_id_is_kept_however_often_it_stands_there() -> None:
    rows = shown("s1", 0, ["a"], device="d", query="q", price=1.0) + shown("s2", HOUR, ["a"], device="d", query="q", price=1.0)
    found = run(Log.of(rows, [done("click", 5, "a")] * 3, ITEMS), steps_settings(SPEC, log_end=LOG_END))
    assert found.counts["duplicates"]["engagements"] == 0
    names = [feature.name for feature in plan_of(found.settings).spec.select(kind="numerical", level="item", stored=True)]
    assert found.columns().item_num[1, names.index("own")] == 3
