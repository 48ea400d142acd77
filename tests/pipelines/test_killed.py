"""Kill -9 at any moment: nothing half-written can be read, and the next build into that output is as if there had been none before."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cvr.errors import CvrError
from cvr.manifest import Manifest, load_manifest
from pipelines.record_files import read_records
from tests.pipelines.logs import small_log, write_log

Build = Callable[[str], str]
HOOKS = ("record 1", "record 4", "counts", "publish")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed") / "out"


@pytest.fixture(scope="module")
def build(output: Path) -> Iterator[Build]:
    """Runs builds into `output` in a process that has imported everything."""
    log = write_log(output.parent / "log", *small_log())
    command = [sys.executable, "-m", "tests.pipelines.killer", str(log), str(output)]
    root = Path(__file__).resolve().parents[2]
    errors = output.parent / "errors.txt"
    with (
        errors.open("w") as written,
        subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, text=True
        ) as killer,
    ):

        def run(moment: str) -> str:
            assert killer.stdin and killer.stdout
            print(moment, file=killer.stdin, flush=True)
            answer = killer.stdout.readline().strip()
            assert answer in ("killed", "ended"), f"{answer}: {errors.read_text()}"
            return answer

        yield run
        assert killer.stdin
        killer.stdin.close()


def _files(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}


def _records(output: Path, manifest: Manifest) -> list[bytes]:
    """All records, after a look at what else there is: nothing but this build's files."""
    published = {file.path for split in manifest.splits.values() for file in split.files}
    data = next(iter(published)).split("/")[0]
    assert _files(output) == {*published, f"{data}/counts.json", "manifest.json"}
    assert [path.name for path in output.glob("data-*")] == [data]
    return sorted(record for path in published for record in read_records(str(output / path)))


@pytest.fixture(scope="module")
def whole(build: Build, output: Path) -> tuple[list[bytes], float]:
    """The records of a build that nobody killed, and the seconds that one takes."""
    assert build("never") == "ended"
    records = _records(output, load_manifest(output))
    _unpublish(output)
    started = time.monotonic()
    assert build("never") == "ended"
    seconds = time.monotonic() - started
    assert _records(output, load_manifest(output)) == records
    _unpublish(output)
    return records, seconds


def _unpublish(output: Path) -> None:
    """What a user does to build anew into the same place; the rest is for the next build to clean up."""
    (output / "manifest.json").unlink()


def test_killed_at_chosen_moments(build: Build, output: Path, whole: tuple[list[bytes], float]) -> None:
    records, _ = whole
    assert len(records) == 28
    for moment in HOOKS:
        assert build(moment) == "killed"
        with pytest.raises(CvrError, match="no manifest.json"):
            load_manifest(output)
        left = _files(output)
        assert "build.lock" in left and any(path.endswith(".tfrecord.gz") for path in left), "it was killed while it wrote"
        assert any(path.startswith(".manifest.json.") for path in left) == (moment == "publish")
    assert build("never") == "ended"
    assert _records(output, load_manifest(output)) == records
    _unpublish(output)


def test_killed_at_random_moments(build: Build, output: Path, whole: tuple[list[bytes], float]) -> None:
    records, seconds = whole
    draw = random.Random(7)
    killed = 0
    for _ in range(6):
        answer = build(f"seconds {draw.uniform(0, seconds):.3f}")
        killed += answer == "killed"
        if (output / "manifest.json").exists():  # the kill came after the rename; what is published is whole, if not yet tidied up
            manifest = load_manifest(output)
            published = [file.path for split in manifest.splits.values() for file in split.files]
            assert sorted(record for path in published for record in read_records(str(output / path))) == records
            _unpublish(output)
    assert killed >= 1
    assert build("never") == "ended"
    assert _records(output, load_manifest(output)) == records
