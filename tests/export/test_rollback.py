from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cvr.errors import CvrError
from export import rollback, versions
from tests.commands import run_main
from tests.export.conftest import Exported


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Versions 1, 2 and 5, each a file that says which."""
    for version in (1, 2, 5):
        (tmp_path / str(version)).mkdir()
        (tmp_path / str(version) / "saved_model.pb").write_text(f"{version}", encoding="utf-8")
    return tmp_path


def _go(base: Path, *arguments: str) -> int:
    return run_main(rollback, f"--model_base_path={base}", "--nocheck", *arguments)


def test_back_and_forth(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _go(base) == 0 and list(versions.published(base)) == [1, 2]
    assert "was 5 and is 2; 5 moved to" in capsys.readouterr().out
    assert _go(base) == 0 and list(versions.published(base)) == [1] and list(versions.published(base / "retired")) == [2, 5]
    assert versions.choose_version(base, None) == 6
    with pytest.raises(CvrError, match="version 5 is already published in .*retired/5"):
        versions.choose_version(base, "5")
    assert _go(base, "--undo", "--to=2") == 0 and list(versions.published(base)) == [1, 2]
    assert _go(base, "--undo") == 0 and "was 2 and is 5" in capsys.readouterr().out
    assert {v: (f / "saved_model.pb").read_text(encoding="utf-8") for v, f in versions.published(base).items()} == {1: "1", 2: "2", 5: "5"}


def test_the_newest_version_changes_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, rename = [], os.rename

    def watched(source: Path, target: Path) -> None:
        rename(source, target)
        seen.append(max(versions.published(base)))

    monkeypatch.setattr(os, "rename", watched)
    assert versions.retire(base, 1) == [2, 5] and seen == [5, 1]
    seen.clear()
    assert versions.restore(base) == [5, 2] and seen == [5, 5]


def test_what_cannot_be_done(base: Path) -> None:
    for arguments, message in (
        (["--to=5"], "--to=5: it is the newest version already"),
        (["--to=3"], r"--to=3: .* has versions 1, 2, 5 \(retired: none\)"),
        (["--undo"], "has no version newer than 5; nothing to put back"),
        (["--undo", "--to=2"], "there is no such version in"),
    ):
        with pytest.raises(CvrError, match=message):
            _go(base, *arguments)
    (base / "retired" / "5").mkdir(parents=True)
    with pytest.raises(CvrError, match="retired/5 is there already"):
        _go(base, "--to=1")
    assert list(versions.published(base)) == [1, 2, 5]
    for version in ("2", "5"):
        shutil.rmtree(base / version)
    with pytest.raises(CvrError, match="has only version 1; there is none to go back to"):
        _go(base)
    with pytest.raises(CvrError, match="no model version under"):
        _go(base / "1")


def test_a_version_that_fails_its_check_is_not_gone_back_to(exported: Exported, tmp_path: Path) -> None:
    shutil.copytree(exported.version, tmp_path / "3")
    (tmp_path / "4").mkdir()
    assert run_main(rollback, f"--model_base_path={tmp_path}") == 0 and list(versions.published(tmp_path)) == [3]
    assert _go(tmp_path, "--undo") == 0
    (tmp_path / "3" / "assets.extra" / "parity_requests.tfrecord").unlink()
    with pytest.raises(CvrError, match="no assets.extra/parity_requests.tfrecord"):
        run_main(rollback, f"--model_base_path={tmp_path}")
    assert list(versions.published(tmp_path)) == [3, 4]
