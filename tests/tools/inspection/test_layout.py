"""Durations in words, and tables that fit a terminal."""

from __future__ import annotations

import pytest

from cvr.schema import parse_spec
from tools.inspection.layout import human, list_lines
from tools.inspection.readable import Item, Shown

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1 s"),
        (12_345, "12 s"),
        (MINUTE, "1 min"),
        (3 * MINUTE + 20 * SECOND, "3 min 20 s"),
        (2 * HOUR + 59 * SECOND, "2 h"),
        (2 * HOUR + 5 * MINUTE, "2 h 5 min"),
        (3 * DAY + 4 * HOUR + 59 * MINUTE, "3 d 4 h"),
        (400 * DAY, "400 d"),
    ],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert human(milliseconds) == text


def _shown(**values: object) -> Shown:
    items = [Item(place, f"i{place}", {"buy": 0}, {}, 0.0, dict(values)) for place in (1, 2)]
    return Shown("s", "2026-01-01 00:00:00.000", "train", 0, "file", "2026-01-01", 0, {}, items)


def _spec(names: list[str]) -> str:
    lines = "".join(f"  {name}: {{kind: numerical, level: item, from: item.{name}}}\n" for name in names)
    return f"dataset: t\ntasks: {{buy: {{events: [buy], window: 1d, primary: true}}}}\nfeatures:\n{lines}"


def test_columns_that_do_not_fit_go_into_another_table() -> None:
    names = [f"feature_{place}" for place in range(9)]
    features = parse_spec(_spec(names)).select()
    lines = list(list_lines(_shown(**dict.fromkeys(names, 1234567.0)), features, 1, 60))
    heads = [line.split() for line in lines if line.split()[:2] == ["#", "item"]]
    assert [head[2:] for head in heads] == [
        ["[buy]", "(popularity)", "feature_0", "feature_1"],
        ["feature_2", "feature_3", "feature_4", "feature_5"],
        ["feature_6", "feature_7", "feature_8"],
    ]
    assert max(map(len, lines)) <= 60 and "1234567" in lines[-1]


def test_cells_are_cut_and_wide_characters_count_twice() -> None:
    features = parse_spec(_spec(["name", "price"])).select()
    lines = list(list_lines(_shown(name="주전자" * 6, price=1.5), features, 1, 80))
    head, row = lines[-3:-1]
    assert "  주전자주전자주전자주전자주…  " in row and len(row) + 13 == len(head)  # 13 characters of double width
