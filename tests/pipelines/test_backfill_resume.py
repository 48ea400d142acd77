"""Backfills that are killed, repeated, interrupted, or started twice."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cvr.errors import CvrError
from pipelines.backfilling import job as backfill_job
from pipelines.backfilling.job import backfill
from pipelines.backfilling.request import Request
from pipelines.backfilling.work import file_sizes
from pipelines.claim import claim
from pipelines.job import build
from tests.pipelines.backfilled import LAUNCH, rich_log, run_and_die, spec_of
from tests.pipelines.logs import settings, write_log

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.pipelines.backfilled"])


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Price for the first two days: two files of each get it, two of the test split are linked."""
    folder = tmp_path_factory.mktemp("backfill")
    log = write_log(folder / "log", *rich_log())
    build(settings(log, folder / "old", spec_of(["price", "title"], LAUNCH)))
    return Request(str(folder / "old"), "", ("price",), "2026-01-01", "2026-01-03")


def killed(request: Request, *death: Any) -> bool:
    """Runs a backfill in a process of its own that dies where told; whether it did, and not before or of anything else."""
    child = PROCESSES.Process(target=run_and_die, args=(request, *death))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def stamps(folder: Path, pattern: str) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob(pattern)}


def finished(new: Path) -> dict[str, int]:
    """Stamps of what a run finished: published features, and files of the new version that are noted as done, with their notes."""
    found: dict[str, int] = {}
    for manifest in new.glob("work/lists/*/manifest.json"):
        found |= stamps(new, f"{manifest.parent.relative_to(new)}/**/*.gz")
    for note in new.glob("work/done/**/*.json"):
        found |= stamps(new, str(note.relative_to(new)))
        found |= stamps(new, f"data-*/{note.relative_to(new / 'work' / 'done').with_suffix('.tfrecord.gz')}")
    return found


def test_a_killed_backfill_goes_on_where_it_was(request_: Request, tmp_path: Path) -> None:
    new = tmp_path / "new"
    request = dataclasses.replace(request_, output=str(new), step_days=1)
    whole = backfill(dataclasses.replace(request_, output=str(tmp_path / "whole")))
    # While the features are computed: nothing is worth keeping, so the next command may ask for something else.
    assert killed(dataclasses.replace(request, features=("title",)), "pipelines.write", "write_records", 1)
    assert not list(new.glob("work/lists/*/manifest.json"))
    # Between a file and what is noted of it; when the features of the second day, and when the new version is about to be published:
    # no run computes or writes anything again that an earlier one finished.
    before: dict[str, int] = {}
    for function, calls, done in (("backfilling.files.put_json", 1, 1), ("write.publish", 0, 2), ("write.publish", 1, 4)):
        assert killed(request, *f"pipelines.{function}".rsplit(".", 1), calls), (function, calls)
        after = finished(new)
        assert sum(path.endswith(".json") for path in after) == done and not (new / "manifest.json").exists()
        assert {path: after[path] for path in before} == before
        before = after
        if done == 1:
            with pytest.raises(CvrError, match=r"unfinished backfill.*--features \(was price, now title\)"):
                backfill(dataclasses.replace(request, features=("title",)))
    # Everything but the manifest is there; a file that was damaged since is noticed and made again, the others stay.
    files = stamps(new, "data-*/train/**/*.gz")
    damaged = new / next(iter(files))
    damaged.write_bytes(damaged.read_bytes()[:-10])
    manifest = backfill(request)
    assert {path for path, time in stamps(new, "data-*/train/**/*.gz").items() if time != files[path]} == {next(iter(files))}
    assert manifest.data_fingerprint() == whole.data_fingerprint() and manifest.splits.keys() == whole.splits.keys()
    for name, split in manifest.splits.items():
        assert (split.statistics, split.coverage) == (whole.splits[name].statistics, whole.splits[name].coverage)
    assert not (new / "work").exists() and len(list(new.glob("data-*"))) == 1


def test_force_starts_anew_and_ctrl_c_publishes_nothing(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = dataclasses.replace(request_, output=str(tmp_path / "new"))

    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(backfill_job, "describe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            backfill(request)
    assert not (tmp_path / "new" / "manifest.json").exists()
    (data,) = (tmp_path / "new").glob("data-*")
    manifest = backfill(dataclasses.replace(request, features=("title",)), force=True)
    assert manifest.changes[-1]["features"] == ["title"] and not data.exists()


def test_sizes_of_files_by_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, size in (("a/x", 3), ("a/y", 5), ("b/x", 7)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"." * size)
    assert file_sizes(["b/x", "a/x", str(tmp_path / "a" / "y")]) == [7, 3, 5]
    with pytest.raises(CvrError, match="a/z was there a moment ago"):
        file_sizes(["a/x", "a/z"])


def test_two_at_once_are_refused(request_: Request, tmp_path: Path) -> None:
    with claim(str(tmp_path), "other"), pytest.raises(CvrError, match="another build is writing there"):
        backfill(dataclasses.replace(request_, output=str(tmp_path)))
