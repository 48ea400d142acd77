"""Record files are read back whole, or refused by name and record."""

from __future__ import annotations

from pathlib import Path

import pytest
from isal import igzip

from cvr.errors import CvrError
from pipelines.record_files import read_records
from pipelines.write import frame, write_bytes, write_records

RECORDS = [b"", b"one", bytes(range(256)) * 50]


def test_reading_gives_what_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "part.tfrecord.gz")
    write_records(path, RECORDS)
    assert read_records(path) == RECORDS


@pytest.mark.parametrize(
    ("place", "message"), [(0, "record 0 .from 0. has a damaged length"), (17, "record 1"), (30, "record 1"), (60, "record 2")]
)
def test_a_flipped_byte_is_found(tmp_path: Path, place: int, message: str) -> None:
    data = bytearray(frame(RECORDS))
    data[place] ^= 1
    path = str(tmp_path / "part.tfrecord.gz")
    write_bytes(path, igzip.compress(bytes(data)))
    with pytest.raises(CvrError, match=f"part.tfrecord.gz: {message}"):
        read_records(path)


@pytest.mark.parametrize("size", [1, 12, 20])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    path = str(tmp_path / "part.tfrecord.gz")
    write_bytes(path, igzip.compress(frame(RECORDS)[:-size]))
    with pytest.raises(CvrError, match="record 2"):
        read_records(path)
    write_bytes(path, igzip.compress(frame(RECORDS))[:-size])
    with pytest.raises(CvrError, match="cannot be read"):
        read_records(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="nothing.tfrecord.gz: cannot be read"):
        read_records(str(tmp_path / "nothing.tfrecord.gz"))
