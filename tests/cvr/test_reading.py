"""Broken record files are errors that name file and record, wherever in the data they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from cvr import records
from cvr.data import Budget, batches
from cvr.errors import CvrError
from cvr.reading import iterate
from tests.support import LEAN, random_columns, tiny_spec

SPEC = tiny_spec(LEAN)
OTHER = tiny_spec(LEAN.replace("item.price", "item.cost"))
BUDGET = Budget(items=30, lists=12)


def _write(path: Path, serialized: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in serialized:
            writer.write(record)
    return str(path)


def _read(files: list[str]) -> int:
    return len(list(iterate(batches(SPEC, files, BUDGET), SPEC, files)))


@pytest.fixture(scope="module")
def lists() -> list[bytes]:
    return records.encode(SPEC, random_columns(SPEC, 20))


def test_whole_files_give_their_batches(tmp_path: Path, lists: list[bytes]) -> None:
    files = [_write(tmp_path / "a.tfrecord", lists[:9]), _write(tmp_path / "b.tfrecord", lists[9:])]
    assert _read(files) == len(list(batches(SPEC, files, BUDGET)))


def test_a_record_of_another_spec_is_named(tmp_path: Path, lists: list[bytes]) -> None:
    foreign = records.encode(OTHER, random_columns(OTHER, 1))
    files = [
        _write(tmp_path / "good.tfrecord", lists[:5]),
        _write(tmp_path / "mixed.tfrecord", [*lists[5:8], *foreign, *lists[8:]]),
    ]
    with pytest.raises(CvrError, match=r"mixed.tfrecord: record 3: .*another feature spec"):
        _read(files)


@pytest.mark.parametrize("junk, reason", [(b"\xff\xff\xff", "no list record"), (b"text", ".*Could not parse example")])
def test_bytes_that_are_no_record_are_named(tmp_path: Path, lists: list[bytes], junk: bytes, reason: str) -> None:
    files = [_write(tmp_path / "odd.tfrecord", [*lists[:2], junk])]
    with pytest.raises(CvrError, match=f"odd.tfrecord: record 2: {reason}"):
        _read(files)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_named(tmp_path: Path, lists: list[bytes], damage: str) -> None:
    good = _write(tmp_path / "good.tfrecord", lists)
    bad = Path(_write(tmp_path / "bad.tfrecord", lists))
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 0xFF
    bad.write_bytes(bytes(content) if damage == "changed" else bytes(content[:-5]))
    with pytest.raises(CvrError, match=r"bad.tfrecord: cut off or changed after \d+ or more whole records; rebuild the lists"):
        _read([good, str(bad)])
