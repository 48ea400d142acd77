"""One build at a time per output, on this machine and on an object store; what failed and dead builds leave is cleaned up."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvr.errors import CvrError
from cvr.manifest import Manifest
from pipelines import claim as claims
from pipelines import write
from pipelines.claim import claim
from pipelines.job import build
from pipelines.record_files import read_records
from pipelines.settings import Settings
from tests.pipelines.logs import settings, small_log, write_log
from tests.pipelines.object_store import OBJECTS, upload

BUCKET = "store://bucket/out"
LOCK = f"{BUCKET}/build.lock"
DEAD = "0123456789ab"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), *small_log())


@pytest.fixture
def bad_log(tmp_path: Path) -> Path:
    """The same log with one bad row, the fourth of the impressions."""
    rows, events = small_log()
    rows[3]["item_id"] = None
    return write_log(tmp_path / "bad log", rows, events)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """An empty object store, with heartbeats of milliseconds."""
    monkeypatch.setattr(claims, "BEAT", 0.05)
    monkeypatch.setattr(claims, "PATIENCE", 0.3)
    monkeypatch.setattr(claims, "SETTLE", 0.01)
    OBJECTS.clear()
    yield OBJECTS
    OBJECTS.clear()


# On this machine --------------------------------------------------------------------------------------------------------------------


def test_a_second_build_is_refused_while_the_first_runs(log: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with claim(str(output), "first") as held:
        with pytest.raises(CvrError, match="another build is writing there .build first, host .*, process .*give another --output"):
            build(settings(log, output))
        assert [path.name for path in output.iterdir()] == ["build.lock"]
        held.check()
    assert not list(output.iterdir())
    with claim(str(output), "second"):
        pass


def test_a_lock_that_is_left_behind_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "build.lock").write_text("")  # its process was killed before it wrote its name
    with claim(str(tmp_path), "next"):
        assert json.loads((tmp_path / "build.lock").read_text())["build"] == "next"
    assert not list(tmp_path.iterdir())


def test_a_build_whose_lock_was_removed_publishes_nothing(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"

    def write_and_lose(path: str, records: Any) -> tuple[int, str]:
        (output / "build.lock").unlink(missing_ok=True)
        return real(path, records)

    real = write.write_records
    monkeypatch.setattr(write, "write_records", write_and_lose)
    with pytest.raises(CvrError, match="build.lock was removed while this build ran; nothing was published"):
        build(settings(log, output))
    assert not list(output.iterdir())


def test_an_output_that_cannot_be_made(log: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CvrError, match="file/out cannot be written: .*Not a directory"):
        build(settings(log, tmp_path / "file" / "out"))


def test_without_locks_the_heartbeat_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: dict[str, bytes]) -> None:
    monkeypatch.setattr(claims, "_has_locks", lambda output: False)
    with claim(str(tmp_path), "first"):
        with pytest.raises(CvrError, match="another build is writing there .build first"), claim(str(tmp_path), "second"):
            pass
    assert not list(tmp_path.iterdir())


# On an object store -----------------------------------------------------------------------------------------------------------------


def _remote(log: str) -> Settings:
    return dataclasses.replace(settings(Path("unused"), Path("unused")), input=log, output=BUCKET)


def _records(folder: str, manifest: Manifest) -> list[bytes]:
    return sorted(r for split in manifest.splits.values() for file in split.files for r in read_records(f"{folder}/{file.path}"))


def test_a_build_from_an_object_store_into_one(log: Path, tmp_path: Path, store: dict[str, bytes]) -> None:
    upload(log, "store://bucket/log")
    leftovers = (f"data-{DEAD}/train/2026-01-01/part-00000.tfrecord.gz", f"failed-{DEAD}/bad/00000.jsonl", f"data-{DEAD}/counts.json")
    store.update({f"{BUCKET}/{path}": b"of a dead build" for path in (*leftovers, "data-mine/kept", "notes.txt")})
    wanted = settings(log, tmp_path / "out")
    manifest = build(_remote("store://bucket/log"))
    left = {path[len(BUCKET) + 1 :] for path in store if path.startswith(BUCKET)}
    files = {file.path for split in manifest.splits.values() for file in split.files}
    data = next(iter(files)).split("/")[0]
    assert left == {*files, f"{data}/counts.json", "manifest.json", "data-mine/kept", "notes.txt"}
    assert Manifest.model_validate_json(store[f"{BUCKET}/manifest.json"]) == manifest
    assert _records(BUCKET, manifest) == _records(str(tmp_path / "out"), build(wanted))
    with pytest.raises(CvrError, match="holds published lists"):
        build(_remote(str(log)))


def test_a_missing_folder_of_an_object_store(store: dict[str, bytes]) -> None:
    with pytest.raises(CvrError, match="--input=store://bucket/nothing: no impressions"):
        build(_remote("store://bucket/nothing"))


def test_a_living_build_s_heartbeat_refuses_the_next(store: dict[str, bytes]) -> None:
    with claim(BUCKET, "first") as held:
        with pytest.raises(CvrError, match="another build is writing there .build first"), claim(BUCKET, "second"):
            pass
        held.check()
    assert not store


def test_a_silent_claim_is_taken_over(store: dict[str, bytes]) -> None:
    store[LOCK] = json.dumps({"build": "killed", "beat": 7}).encode()
    with claim(BUCKET, "next"):
        assert json.loads(store[LOCK])["build"] == "next"
    assert not store


def test_who_was_taken_over_does_not_publish(store: dict[str, bytes]) -> None:
    with claim(BUCKET, "first") as held:
        store[LOCK] = json.dumps({"build": "second", "beat": 1}).encode()
        with pytest.raises(CvrError, match="another build is writing there .build second"):
            held.check()
    assert json.loads(store[LOCK])["build"] == "second"  # and leaves the other's claim alone


def test_of_two_that_start_together_one_goes_on(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    both_have_looked, both_have_written = threading.Barrier(2), threading.Barrier(2)
    looked, wrote = claims._Heartbeat._wait_for_silence, claims._Heartbeat._beat

    def look(self: Any) -> None:
        looked(self)
        both_have_looked.wait(10)

    def beat(self: Any) -> None:
        wrote(self)
        if self._beats == 1:
            both_have_written.wait(10)

    monkeypatch.setattr(claims._Heartbeat, "_wait_for_silence", look)
    monkeypatch.setattr(claims._Heartbeat, "_beat", beat)
    ended: list[str] = []
    one_is_refused = threading.Event()

    def try_it(name: str) -> None:
        try:
            with claim(BUCKET, name):
                one_is_refused.wait(10)
                ended.append("claimed")
        except CvrError:
            ended.append("refused")
            one_is_refused.set()

    threads = [threading.Thread(target=try_it, args=(name,)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == ["refused", "claimed"]


# Dead letters -----------------------------------------------------------------------------------------------------------------------


def test_a_failed_build_keeps_its_dead_letters_until_the_next(log: Path, bad_log: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(CvrError, match="1 of 196 rows are bad .*\nbad rows are kept until the next build: (.*)$") as refused:
        build(settings(bad_log, output))
    place = Path(str(refused.value).rpartition(": ")[2])
    assert place.parent.parent == output and place.parent.name.startswith("failed-")
    (letter,) = [json.loads(line) for path in place.iterdir() for line in path.read_text().splitlines()]
    assert letter["file"].endswith("impressions/part.parquet")
    assert (letter["table"], letter["row"], letter["reason"]) == ("impressions", 3, "item_id is null or empty")
    assert sorted(path.name for path in output.iterdir()) == [place.parent.name]
    build(settings(log, output))
    assert not list(output.glob("failed-*"))


def test_dead_letters_on_an_object_store(bad_log: Path, store: dict[str, bytes]) -> None:
    with pytest.raises(CvrError, match=f"until the next build: {BUCKET}/failed-[0-9a-f]{{12}}/bad$"):
        build(_remote(str(bad_log)))
    ((path, data),) = store.items()
    assert path.startswith(f"{BUCKET}/failed-") and json.loads(data)["row"] == 3
