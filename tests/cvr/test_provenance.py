"""A run's commit and machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cvr.provenance import commit, provenance


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
    return subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_tells_changes_and_other_checkouts_apart(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    _git(tmp_path, "init", "-q")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_text("1")
    assert commit(tmp_path) is None  # a checkout without a commit
    _git(tmp_path, "add", "inner/a")
    _git(tmp_path, "commit", "-q", "-m", "first")
    _git(tmp_path, "tag", "-m", "v", "v1")
    first = _git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == first and len(first) == 40
    assert commit(tmp_path / "inner") is None
    (tmp_path / "inner" / "a").write_text("2")
    assert commit(tmp_path) == first + "-dirty"


def test_provenance_is_plain_json() -> None:
    found = json.loads(json.dumps(provenance()))
    assert set(found) == {"commit", "machine"} and set(found["machine"]) == {"processor", "cpus", "gpus", "system"}
    assert found["machine"]["cpus"] >= 1
