"""Every way in which a file or its values can be wrong is found, named, and nothing else is."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from isal import igzip

from cvr.records import ListColumns, decode, encode
from cvr.schema import parse_spec
from cvr.transforms import FIRST_ID, UNSEEN
from pipelines import write
from pipelines.record_files import read_records
from pipelines.validation.conformance import check_values, read
from pipelines.validation.inputs import Element, Source, elements_of, load, source_of
from tests.pipelines.logs import DAY, HOUR, T0
from tests.pipelines.validation.folders import SPEC, draw, publish

SOURCE = Source("lists", "", SPEC, {"train": (T0, T0 + 2 * DAY)})
ELEMENT = Element("lists", "train", 0, "part-00000.tfrecord.gz", "2026-01-01", 20, 0, 0, "", True)


@functools.cache
def _drawn() -> ListColumns:
    return draw(20, 1)


def _kinds(columns: ListColumns) -> dict[str, int]:
    return {kind: found.count for kind, found in check_values(SOURCE, ELEMENT, columns).items()}


def _with(name: str, place: int | tuple[int, int], value: int) -> ListColumns:
    changed = getattr(_drawn(), name).copy()
    changed[place] = value
    return dataclasses.replace(_drawn(), **{name: changed})


def _labelled(label: int, delay: int) -> ListColumns:
    return dataclasses.replace(_with("labels", (0, 0), label), delay=_with("delay", (0, 0), delay).delay)


def _cat(value: int) -> ListColumns:
    changed = _drawn().cat["brand"].copy()
    changed[3] = value
    return dataclasses.replace(_drawn(), cat={**_drawn().cat, "brand": changed})


def _ages(*ages: float, action: int = FIRST_ID) -> ListColumns:
    lengths = np.zeros(20, np.int64)
    lengths[4] = len(ages)
    parts = np.full(len(ages), FIRST_ID), np.full(len(ages), action), np.array(ages, np.float32)
    history = dataclasses.replace(
        _drawn().sequences["recent"], item=parts[0], action=parts[1], age=parts[2], lengths=lengths
    )
    return dataclasses.replace(_drawn(), sequences={"recent": history})


WRONG: dict[str, tuple[Callable[[], ListColumns], dict[str, int]]] = {
    "nothing": (_drawn, {}),
    "position 0": (lambda: _with("position", 0, 0), {"positions": 1}),
    "an un-exposed item at the end": (lambda: _with("position", int(_drawn().lengths[0]) - 1, 0), {}),
    "a negative position": (lambda: _with("position", 0, -1), {"positions": 1}),
    "a position twice": (lambda: _with("position", 1, 1), {"positions": 1}),
    "a label of 2": (lambda: _labelled(2, 5), {"labels": 1}),
    "a label without delay": (lambda: _labelled(1, -1), {"labels": 1}),
    "a delay without label": (lambda: _labelled(0, 5), {"labels": 1}),
    "the window's last millisecond": (lambda: _labelled(1, HOUR), {}),
    "one millisecond late": (lambda: _labelled(1, HOUR + 1), {"labels": 1}),
    "a later day of the split": (lambda: _with("time", 19, T0 + DAY), {"days": 1}),
    "after the split": (lambda: _with("time", 19, T0 + 2 * DAY), {"days": 1, "split_times": 1}),
    "padding": (lambda: _cat(0), {"ids": 1}),
    "an id below 0": (lambda: _cat(-5), {"ids": 1}),
    "an unseen id": (lambda: _cat(UNSEEN), {}),
    "an unseen item": (lambda: _with("item", 0, UNSEEN), {"ids": 1}),
    "an event of the future": (lambda: _ages(-1.0, 3.0), {"histories": 1}),
    "the oldest event first": (lambda: _ages(5.0, 3.0), {"histories": 1}),
    "an unseen history": (lambda: _ages(0.0, action=UNSEEN), {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_values(name: str) -> None:
    columns, expected = WRONG[name]
    assert _kinds(columns()) == expected


def test_un_exposed_items_stand_in_training_lists_only() -> None:
    columns = _with("position", int(_drawn().lengths[0]) - 1, 0)
    source, element = dataclasses.replace(SOURCE, times={"test": (T0, T0 + 2 * DAY)}), dataclasses.replace(ELEMENT, split="test")
    assert {kind: found.count for kind, found in check_values(source, element, columns).items()} == {"positions": 1}


def test_a_violation_names_file_record_and_search() -> None:
    found = check_values(SOURCE, ELEMENT, _with("time", 19, T0 + 2 * DAY))
    place = "part-00000.tfrecord.gz: record 19 (from 0), search '1-0-19' at 2026-01-03T00:00:00Z"
    assert found["split_times"].examples == (place,)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Element]:
    folder = publish(tmp_path_factory.mktemp("lists"), days=1, lists=20, parts=1)
    manifest = load(str(folder), "lists")
    return source_of("lists", str(folder), manifest), elements_of("lists", manifest, 9)[0]


def _told(published: tuple[Source, Element], folder: Path, data: bytes, agrees: bool = True) -> dict[str, str]:
    """What is wrong with a file of these bytes, by kind; the manifest's size and checksum are mended where they should agree."""
    source, element = dataclasses.replace(published[0], folder=str(folder)), published[1]
    write.write_bytes(str(folder / element.path), data)
    if agrees:
        element = dataclasses.replace(element, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    columns, wrong = read(source, element)
    assert (columns is None) == bool(wrong.keys() & {"files", "records"})
    return {kind: found.examples[0].removeprefix(element.path) for kind, found in wrong.items()}


def test_files(published: tuple[Source, Element], tmp_path: Path) -> None:
    source, element = published
    records = read_records(f"{source.folder}/{element.path}")

    def packed(*content: bytes) -> bytes:
        return igzip.compress(write.frame(content), compresslevel=1, mtime=0)

    assert _told(published, tmp_path, packed(*records), agrees=False) == {}
    cut = packed(*records)[:-30]
    assert _told(published, tmp_path, cut, agrees=False).keys() == {"size", "checksum", "files"}
    assert "cannot be read" in _told(published, tmp_path, cut)["files"]
    fewer = _told(published, tmp_path, packed(*records[:-1]))
    assert fewer.keys() == {"counts"} and ": 20 lists and " in fewer["counts"] and " 19 and " in fewer["counts"]
    broken = _told(published, tmp_path, packed(*records[:7], records[7][:-9], *records[8:]))
    assert broken["records"].startswith(": record 7 (from 0): ")
    other = parse_spec(SPEC.replace("window: 1h", "window: 2h"))
    foreign = _told(published, tmp_path, packed(*records[:3], *encode(other, draw(1, 5)), *records[4:]))
    assert "record 3 (from 0): a record was built with another feature spec" in foreign["records"]


def test_a_missing_file_is_named(published: tuple[Source, Element], tmp_path: Path) -> None:
    columns, wrong = read(dataclasses.replace(published[0], folder=str(tmp_path)), published[1])
    assert columns is None and "part-00000.tfrecord.gz: cannot be read" in wrong["files"].examples[0]


def test_parts_that_moved_between_records_are_found(published: tuple[Source, Element], tmp_path: Path) -> None:
    """A label of the first record stands in the second one: the sums over both records are right, so they decode."""
    spec, columns = parse_spec(SPEC), draw(2, 8)
    assert columns.lengths[1] > 1
    right = encode(spec, columns)
    wrong = encode(spec, dataclasses.replace(columns, lengths=columns.lengths + [1, -1]))
    mixed = [_with_entry(one, other, b"labels") for one, other in zip(right, wrong, strict=True)]
    assert _with_entry(right[0], right[0], b"labels") == right[0] != mixed[0]
    decode(spec, mixed)
    told = _told(published, tmp_path, igzip.compress(write.frame(mixed), compresslevel=1, mtime=0))
    assert told == {"records": ": record 0 (from 0): parts of it belong to another list"}


def _entries(record: bytes) -> list[bytes]:
    """The bodies of a record's features, each a key and its values."""
    _, place = _varint(record, 1)
    found = []
    while place < len(record):
        size, place = _varint(record, place + 1)
        found.append(record[place : place + size])
        place += size
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 128:
            return value, place


def _sized(body: bytes) -> bytes:
    size, number = b"", len(body)
    while number > 127:
        size, number = size + bytes([number & 127 | 128]), number >> 7
    return b"\x0a" + size + bytes([number]) + body


def _with_entry(record: bytes, other: bytes, key: bytes) -> bytes:
    """A record with one feature taken from another."""
    pairs = zip(_entries(record), _entries(other), strict=True)
    head = b"\x0a" + bytes([len(key)]) + key
    return _sized(b"".join(_sized(theirs if ours.startswith(head) else ours) for ours, theirs in pairs))
