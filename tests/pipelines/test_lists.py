"""Which lists are kept, in which order, for which split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cvr.errors import CvrError
from cvr.records import ListColumns
from cvr.transforms import hash_strings
from pipelines.batches import column
from pipelines.lists import DELAY, Lists, arrange, describe, select
from pipelines.settings import Settings, format_time, parse_time
from tests.pipelines.logs import DAY, HOUR, SPEC, T0, impressions, plan, shown

PLAN = plan()


def _settings(**changes: Any) -> Settings:
    return Settings(
        source="canonical", input="i", output="o", spec_text=SPEC, **{"drop_unconverted": "none", **changes}
    )


def _lists(rows: list[dict[str, Any]], converted: tuple[str, ...] = ()) -> Lists:
    table = impressions(rows, PLAN)
    bought = [5 if row["search_id"] in converted and row["position"] == 1 else -1 for row in rows]
    delays = {"click": [-1] * len(rows), "purchase": bought}
    for name, delay in delays.items():
        table = table.append_column(f"{DELAY}{name}", pa.array(delay, pa.int64()))
    return arrange(table)


SEARCHES = ["late", "early", "s", *(f"s{i}" for i in range(7)), *"abcf"]
NAMES = dict(zip(hash_strings(SEARCHES).numpy().tolist(), SEARCHES, strict=True))


def _names(lists: Lists) -> list[str]:
    return [NAMES[search] for search in column(lists.rows, "search")[lists.starts].tolist()]


def test_items_are_sorted_by_position_and_lists_by_their_earliest_impression() -> None:
    rows = shown("late", 50, ["a", "b"]) + shown("early", 10, ["c", "d"])
    rows[1]["time"] = T0 + 3
    rows.reverse()
    lists = _lists(rows)
    assert _names(lists) == ["late", "early"]
    assert lists.time.tolist() == [T0 + 3, T0 + 10]
    assert column(lists.rows, "position").tolist() == [1, 2, 1, 2]
    assert column(lists.rows, "item").tolist() == hash_strings(["a", "b", "c", "d"]).numpy().tolist()


def test_a_list_is_mature_when_the_longest_window_after_its_last_impression_is_over() -> None:
    rows = shown("s", 0, ["a", "b"])
    rows[1]["time"] = T0 + 10
    for end, kept in ((T0 + DAY + 9, 0), (T0 + DAY + 10, 1)):
        _, counts = select(_lists(rows), PLAN, _settings(), end)
        assert counts["lists"]["kept"] == kept and counts["lists"]["immature"] == 1 - kept


def test_a_task_that_does_not_censor_sets_no_list_aside() -> None:
    lazy = plan(SPEC.replace("window: 1d, primary: true", "window: 1d, primary: true, censor: false"))
    _, counts = select(_lists(shown("s", 0, ["a"])), lazy, _settings(), T0 + HOUR)
    assert counts["lists"]["kept"] == 1


def test_splits_are_half_open() -> None:
    rows = [row for i, time in enumerate([0, 9, 10, 19, 20, 29, 30]) for row in shown(f"s{i}", time, ["a"])]
    settings = _settings(start=T0 + 1, validation_from=T0 + 10, test_from=T0 + 20, end=T0 + 30)
    lists, counts = select(_lists(rows), PLAN, settings, T0 + 9 * DAY)
    assert list(zip(_names(lists), lists.split.tolist(), strict=True)) == [
        ("s1", 0),
        ("s2", 1),
        ("s3", 1),
        ("s4", 2),
        ("s5", 2),
    ]
    assert counts["lists"]["out_of_range"] == 2


def test_without_validation_training_ends_where_the_test_begins() -> None:
    assert _settings(test_from=T0).splits() == [("train", None, T0), ("test", T0, None)]
    assert _settings().splits() == [("train", None, None)]


@pytest.mark.parametrize(("drop", "kept"), [("none", "abc"), ("train", "ac"), ("all", "a")])
def test_lists_without_a_purchase_are_dropped_where_told(drop: str, kept: str) -> None:
    rows = shown("a", 0, ["i", "j"]) + shown("b", 1, ["i"]) + shown("c", 10, ["i"])
    lists, counts = select(_lists(rows, ("a",)), PLAN, _settings(test_from=T0 + 5, drop_unconverted=drop), T0 + 9 * DAY)
    assert "".join(_names(lists)) == kept
    assert counts["lists"]["unconverted"] == 3 - len(kept)


def test_other_domains_are_set_aside() -> None:
    lists, counts = select(
        _lists(shown("f", 0, ["a"], domain="feed") + shown("s", 0, ["a"], domain="search")),
        PLAN,
        _settings(),
        T0 + 9 * DAY,
    )
    assert _names(lists) == ["s"] and counts["lists"]["other_domain"] == 1


def test_no_lists_at_all() -> None:
    lists, counts = select(_lists([]), PLAN, _settings(), T0)
    assert len(lists.lengths) == 0 and counts == {}


def _columns(lists: Lists) -> ListColumns:
    items, nothing = int(lists.lengths.sum()), np.zeros((0, 0), np.float32)
    return ListColumns(
        search_id=np.array(_names(lists), object),
        time=lists.time,
        lengths=lists.lengths,
        item=column(lists.rows, "item"),
        position=column(lists.rows, "position"),
        labels=(lists.delay >= 0).astype(np.int64),
        delay=lists.delay,
        popularity=np.zeros(items, np.float32),
        context_num=nothing,
        item_num=nothing,
    )


def test_describe_counts_positions_labels_and_lengths() -> None:
    lists, _ = select(_lists(shown("a", 0, ["i", "j"]) + shown("b", 1, ["i"]), ("a",)), PLAN, _settings(), T0 + 9 * DAY)
    found = describe(_columns(lists), np.ones(2, bool), PLAN)
    assert found["lists"] == 2 and found["items"] == 3 and found["max_list_size"] == 2
    assert found["labels"] == {"click": 0, "purchase": 1} and found["lists_with"] == {"click": 0, "purchase": 1}
    assert found["positions"] == {"impressions": {"1": 2, "2": 1}, "click": {}, "purchase": {"1": 1}}
    assert found["list_lengths"] == {"1": 1, "2": 1}
    assert (found["first_time"], found["last_time"]) == (T0, T0 + 1)
    only = describe(_columns(lists), np.array([False, True]), PLAN)
    assert (only["lists"], only["items"], only["labels"]["purchase"], only["first_time"]) == (1, 1, 0, T0 + 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01", T0),
        ("2026-01-01T00:00:00Z", T0),
        ("2026-01-01T01:00:00+01:00", T0),
        ("2026-01-01 00:00:00.250", T0 + 250),
        (None, None),
    ],
)
def test_parse_time(text: str | None, expected: int | None) -> None:
    assert parse_time(text, "start") == expected


def test_bad_times_and_flags_that_contradict() -> None:
    with pytest.raises(CvrError, match="--test_from=soon: expected a date"):
        parse_time("soon", "test_from")
    with pytest.raises(
        CvrError, match="--validation_from=2026-01-02T00:00:00Z must lie before --test_from=2026-01-01T00:00:00Z"
    ):
        _settings(validation_from=T0 + DAY, test_from=T0)
    with pytest.raises(CvrError, match="--partitions=-1: expected at least 1, or 0 to have them counted"):
        _settings(partitions=-1)
    for rate in (0, 1.5):
        with pytest.raises(CvrError, match=f"--sampling_rate={rate}: expected a share of the training lists"):
            _settings(sampling_rate=rate)
    with pytest.raises(CvrError, match="--split_rows=0: expected at least 1"):
        _settings(split_rows=0)
    with pytest.raises(CvrError, match="--max_bad_fraction=2"):
        _settings(max_bad_fraction=2)
    assert format_time(T0 + 5) == "2026-01-01T00:00:00.005Z" and format_time(None) == "none"
