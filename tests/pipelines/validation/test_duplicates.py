"""Searches and contents that stand twice are found across files and splits, and only those."""

from __future__ import annotations

import dataclasses

import numpy as np

from cvr.records import Layout, ListColumns
from cvr.schema import parse_spec
from pipelines.validation.duplicates import digests, find
from pipelines.validation.merging import Found, merge_all
from tests.pipelines.validation.folders import SPEC, draw

LAYOUT = Layout.of(parse_spec(SPEC))
PLACES = [("train", "a"), ("train", "b"), ("test", "c")]


def _twice(files: list[ListColumns], buckets: int = 3) -> dict[str, Found]:
    pieces: dict[tuple[int, int], list[bytes]] = {}
    for number, columns in enumerate(files):
        for key, data in digests(LAYOUT, columns, number, buckets):
            pieces.setdefault(key, []).append(data)
    found: dict[str, Found] = merge_all(find(key, datas, PLACES) for key, datas in pieces.items())["duplicates"]
    return {kind: twice for kind, twice in found.items() if twice.count}


def _named(columns: ListColumns, names: dict[int, bytes]) -> ListColumns:
    searches = columns.search_id.copy()
    for place, name in names.items():
        searches[place] = name
    return dataclasses.replace(columns, search_id=searches)


def test_nothing_stands_twice() -> None:
    assert _twice([draw(50, 1), draw(50, 2), draw(50, 3)]) == {}


def test_a_search_in_two_files_and_two_splits() -> None:
    files = [draw(50, 1), _named(draw(50, 2), {4: b"1-0-7"}), _named(draw(50, 3), {9: b"1-0-7", 2: b"2-0-0"})]
    found = _twice(files)
    assert found["searches"].count == 3 and found["across_splits"].count == 2
    assert found["searches"].examples == (
        "a: record 7 and b: record 4",
        "b: record 0 and c: record 2",
        "b: record 4 and c: record 9",
    )
    assert "content" not in found


def test_equal_content_under_another_search() -> None:
    columns = draw(50, 1)
    other = _named(columns, {place: f"x{place}".encode() for place in range(50)})
    changed = dataclasses.replace(
        other, item_num=np.where(np.arange(len(other.item))[:, None] == 0, 9.5, other.item_num).astype(np.float32)
    )
    assert _twice([columns, other]) == {"content": Found(50, _twice([columns, other])["content"].examples)}
    assert _twice([columns, changed])["content"].count == 49
    later = dataclasses.replace(other, time=other.time + 1)
    assert _twice([columns, later]) == {}
    # The same search twice with equal content is one search twice, not two searches of equal content.
    assert _twice([columns, columns]).keys() == {"searches"}
