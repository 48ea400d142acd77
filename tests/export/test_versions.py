from __future__ import annotations

from pathlib import Path

import pytest

from cvr.errors import CvrError
from export.versions import choose_version, newest, publish, published


def _write(folder: Path) -> None:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"x")


def test_versions_count_up(tmp_path: Path) -> None:
    assert choose_version(tmp_path, None) == 1
    assert publish(tmp_path, 9, _write) == tmp_path / "9"
    assert choose_version(tmp_path, None) == 10 and choose_version(tmp_path, "4") == 4
    publish(tmp_path, 10, _write)
    assert list(published(tmp_path)) == [9, 10] and newest(tmp_path) == tmp_path / "10" and newest(tmp_path / "9") == tmp_path / "9"


def test_published_version_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, 2, _write)
    with pytest.raises(CvrError, match=r"version 2 is already published .*the next is 3"):
        choose_version(tmp_path, "2")
    with pytest.raises(CvrError, match="published in .* meanwhile"):
        publish(tmp_path, 2, _write)
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


@pytest.mark.parametrize("wanted", ["0", "-1", "v2", "007", "1.5", "\u0662"])
def test_version_that_is_no_number(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(CvrError, match="must be a whole number"):
        choose_version(tmp_path, wanted)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_write_leaves_nothing_and_can_be_repeated(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted(folder: Path) -> None:
        _write(folder)
        assert not published(tmp_path)
        raise error

    with pytest.raises(error):
        publish(tmp_path, 1, interrupted)
    assert not list(tmp_path.iterdir())
    assert publish(tmp_path, 1, _write).is_dir()


def test_leftover_of_a_killed_export_is_no_version(tmp_path: Path) -> None:
    _write(tmp_path / ".1.abcdef01.tmp")
    assert published(tmp_path) == {}
    with pytest.raises(CvrError, match="no model version under"):
        newest(tmp_path)


def test_version_folder_without_model(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    with pytest.raises(CvrError, match=r"has no saved_model\.pb"):
        newest(tmp_path)
