"""Sequences of list records: each event is the target of one list alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cvr.data import split_files
from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.records import Histories, ListColumns
from cvr.sequences import Sequences, first_sightings, read_sequences
from cvr.transforms import FIRST_ID, UNSEEN
from tests.support import FIRST_TIME, LEAN, random_columns, tiny_spec, write_lists

CLICK, BUY = FIRST_ID, FIRST_ID + 1


def _lists(histories: list[tuple[int, list[tuple[int, int, int]]]], seed: int = 0) -> ListColumns:
    """Lists at some times (s) with histories of (item, action, time in s), given from the oldest event to the most recent."""
    spec = tiny_spec(LEAN)
    columns = random_columns(spec, len(histories), seed)
    events = [(item, action, float(now - then)) for now, history in histories for item, action, then in reversed(history)]
    item, action, age = (np.array(part) for part in zip(*events, strict=True)) if events else (np.zeros(0, int),) * 3
    lengths = np.array([len(history) for _, history in histories])
    recent = Histories(item.astype(np.int64), action.astype(np.int64), age.astype(np.float32), lengths)
    time = FIRST_TIME + 1000 * np.array([now for now, _ in histories])
    return dataclasses.replace(columns, time=time, sequences={"recent": recent})


def _targets(columns: ListColumns, group: np.ndarray | None = None) -> list[list[int]]:
    """Of each list the items of its targets, the most recent first."""
    found = columns.sequences["recent"]
    group = np.zeros(len(found.lengths), int) if group is None else group
    marks = first_sightings(columns.time, group, found.lengths, found.item, found.action, found.age)
    ends = np.cumsum(found.lengths)
    return [found.item[end - n : end][marks[end - n : end]].tolist() for end, n in zip(ends, found.lengths, strict=True)]


A, B, C, D, E = ((10 + i, CLICK, 100 * i) for i in range(5))


def test_an_event_is_a_target_in_the_earliest_list_that_holds_it_with_the_one_before() -> None:
    """A customer's lists in any order; the window of the last has lost the first events, and its oldest one has nothing before it."""
    lists = [(900, [B, C, D, E]), (150, [A, B]), (350, [A, B, C, D]), (250, [A, B, C]), (360, [A, B, C, D])]
    assert _targets(_lists(lists)) == [[14], [11], [13], [12], []]


def test_other_customers_do_not_hide_each_other() -> None:
    """The same items and actions at other times; the same moment after another item; and the same with another action."""
    later = [(item, action, time + 5) for item, action, time in (A, B)]
    other = [(99, CLICK, 0), B]
    bought = [A, (B[0], BUY, B[2])]
    assert _targets(_lists([(150, [A, B]), (160, later), (150, other), (150, bought)])) == [[11]] * 4


def test_groups_come_one_after_the_other() -> None:
    """What training holds is no target of validation, even of an earlier list."""
    assert _targets(_lists([(150, [A, B]), (350, [A, B, C])]), group=np.array([1, 0])) == [[], [12, 11]]


def test_reserved_events_and_empty_histories_are_no_targets() -> None:
    unseen = (UNSEEN, UNSEEN, 150)
    assert _targets(_lists([(150, [unseen]), (150, []), (150, [A])])) == [[], [], []]
    assert _targets(_lists([(150, [A, (UNSEEN, CLICK, 100), (12, UNSEEN, 110), B])])) == [[11]]


@pytest.mark.parametrize("days", [1, 30, 90])
def test_the_rounding_of_ages_does_not_count_twice(days: int) -> None:
    """Ages are float32: at 90 days their step is half a second."""
    source = np.random.default_rng(days)
    events = [(10 + i, CLICK, float(time)) for i, time in enumerate(np.sort(source.uniform(0, 1000, 50)))]
    lists = _lists([(int(days * 86_400 + delay), events) for delay in (2000, 2777, 90_001)])
    assert [len(found) for found in _targets(lists)] == [49, 0, 0]


def _read(folder: Path) -> list[Sequences]:
    manifest = load_manifest(folder)
    return read_sequences(tiny_spec(LEAN), "recent", [split_files(folder, manifest, [name]) for name in ("train", "validation")])


def test_from_record_files_to_batches(tmp_path: Path) -> None:
    train, validation = _lists([(150, [A, B]), (250, [A, B, C]), (260, [A, B, C])]), _lists([(400, [A, B, C, D]), (500, [])], 1)
    write_lists(tmp_path, {"train": [train], "validation": [validation]}, LEAN)
    first, second = _read(tmp_path)
    assert (len(first), first.targets, first.lists, len(second), second.targets, second.lists) == (2, 2, 3, 1, 1, 2)
    assert first.catalogue.tolist() == [10, 11, 12] and second.catalogue.tolist() == [10, 11, 12, 13]
    batch = first.batch(np.array([1, 0]), 3)
    assert batch["item"].tolist() == [[12, 11, 10, 0], [11, 10, 0, 0], [0, 0, 0, 0]]
    assert batch["action"].tolist() == [[4, 4, 4, 0], [4, 4, 0, 0], [0, 0, 0, 0]]
    assert batch["target"].tolist() == [[True, False, False, False], [True, False, False, False], [False] * 4]
    assert first.batch(np.arange(0), 2)["item"].tolist() == [[0] * 4] * 2


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    columns = _lists([(150, [A, B])])
    write_lists(tmp_path, {"train": [columns], "validation": [columns]}, LEAN)
    (path,) = (tmp_path / "data" / "validation").rglob("*.gz")
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(CvrError, match=str(path)):
        _read(tmp_path)
