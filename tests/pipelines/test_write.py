"""Record files that TensorFlow reads, statistics, counts, and what an output folder may hold before a build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.errors import CvrError
from cvr.manifest import Moments
from pipelines import counts, statistics, write

NEW = "data-000000000000"


def test_tensorflow_reads_what_was_written(tmp_path: Path) -> None:
    records = [b"", b"one", bytes(range(256)) * 50]
    path = tmp_path / "deep" / "er" / "part.tfrecord.gz"
    size, sha256 = write.write_records(str(path), records)
    assert list(tf.data.TFRecordDataset(str(path), compression_type="GZIP").as_numpy_iterator()) == records
    assert path.stat().st_size == size
    assert write.write_records(str(tmp_path / "again.tfrecord.gz"), records) == (size, sha256)


def test_masked_crc_of_a_known_value() -> None:
    # CRC-32C of 32 zero bytes is 0x8a9136aa (RFC 3720, B.4); masked: rotate right by 15 and add 0xa282ead8.
    crc = 0x8A9136AA
    assert write.masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_a_published_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CvrError, match="holds published lists"):
        write.prepare_output(str(tmp_path), NEW)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(CvrError, match="is a file; give a folder"):
        write.prepare_output(str(path), NEW)


def test_an_output_that_cannot_be_written_and_an_unknown_filesystem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CvrError, match="--output=.*/file/lists cannot be written: "):
        write.prepare_output(str(tmp_path / "file" / "lists"), NEW)
    with pytest.raises(CvrError, match="--output=nowhere://lists: .*the extras gcs and aws"):
        write.prepare_output("nowhere://lists", NEW)


def test_only_the_folders_of_killed_builds_are_removed(tmp_path: Path) -> None:
    for name in ("data-0123456789ab", "data-mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    write.prepare_output(str(tmp_path), NEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == [NEW, "data-mine", "other"]
    write.remove_data(str(tmp_path), "data-absent")


def test_moments_equal_numpy_and_tell_missing_from_unseen() -> None:
    values = np.array([1.0, -3.0, 8.0, np.nan, -np.inf, np.inf], np.float32)
    found = statistics.moments(values)
    assert (found.count, found.missing, found.unseen, found.minimum, found.maximum) == (3, 2, 1, -3.0, 8.0)
    np.testing.assert_allclose(found.mean_std(), (2.0, np.std([1, -3, 8])))
    logs = [np.log(2), -np.log(4), np.log(9)]
    np.testing.assert_allclose(found.mean_std(logarithmic=True), (np.mean(logs), np.std(logs)))
    assert statistics.moments(np.zeros(0)) == Moments()


def test_moments_of_parts_merge_to_those_of_the_whole() -> None:
    values = np.random.default_rng(1).normal(3, 2, 100)
    parts = [statistics.as_counts({"x": statistics.moments(part)}) for part in np.split(values, [10, 60])]
    merged = statistics.from_counts(counts.merge_all(parts))["x"]
    whole = statistics.moments(values)
    assert merged.count == 100
    np.testing.assert_allclose(merged.mean_std(), whole.mean_std(), rtol=1e-12)
    assert (merged.minimum, merged.maximum) == (whole.minimum, whole.maximum)


def test_counts_merge_in_any_order() -> None:
    parts = [
        {"a": 1, "b": {"x": 2}, "last_time": 5},
        {"b": {"x": 1, "y": 1}, "last_time": 3, "first_time": 9},
        {"first_time": 4, "files": [1]},
    ]
    expected = {"a": 1, "b": {"x": 3, "y": 1}, "last_time": 5, "first_time": 4, "files": [1]}
    assert counts.merge_all(parts) == expected == counts.merge_all(reversed(parts))
    assert counts.merge_all([]) == {}


def test_delay_bins_are_ten_per_decade_with_upper_edges() -> None:
    assert counts.delay_histogram(np.array([0, 1, 10, 11, 100, 101, 1000])) == {
        "0": 1,
        "1": 1,
        "10": 1,
        "13": 1,
        "100": 1,
        "126": 1,
        "1000": 1,
    }
