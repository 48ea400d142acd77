"""A training run's folder: `run.json`, `spec.yaml`, `history.jsonl`, checkpoints. Written by training, read by all that follows."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.manifest import publish_json
from cvr.provenance import provenance
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.schema import FeatureSpec, load_spec

RUN_FILE = "run.json"
SPEC_FILE = "spec.yaml"
PRETRAIN = "cvr.pretrain"
"""What `program` says in the `run.json` of a pre-training, which has no ranker."""
PACKAGES = ("tensorflow", "tf-keras", "tensorflow-ranking", "tensorflow-recommenders", "numpy", "apache-beam", "cvr")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as its `run.json` tells it."""

    folder: Path
    info: dict[str, Any]
    spec: FeatureSpec

    @property
    def config(self) -> RankerConfig:
        """What the ranker was made of."""
        return RankerConfig(**self.info["model"])

    @property
    def checkpoint(self) -> str:
        """Prefix of the checkpoint that evaluation and export use."""
        return str(self.folder / self.info["checkpoint"])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in this folder goes on from a checkpoint."""
    return any((folder / "checkpoints").glob("ckpt-*.index"))


def start_run(folder: Path, spec_text: str, info: dict[str, Any], free: Sequence[str] = ()) -> None:
    """Marks a folder as a run in progress: spec and `run.json` with status `training`, its time, commit and machine.

    A run that was interrupted keeps its start, if it wrote a checkpoint. One that differs in flags, data or spec raises CvrError naming
    the differences, and so does a finished one; flags in `free` may differ, which is said on stderr.
    """
    path = folder / RUN_FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if before.get("status") == "finished":
        raise CvrError(f"--output={folder} already holds a finished run; choose another folder or remove it")
    if not has_checkpoint(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPEC_FILE).write_text(spec_text, encoding="utf-8")
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        publish_json(path, {"status": "training", "created": created, **provenance(), **info})
        return
    changed = _changes(before, info)
    refused = [text for key, text in changed.items() if key not in free]
    if refused:
        raise CvrError(
            f"--output={folder} holds an interrupted run with other settings ({'; '.join(refused)}); "
            "give the same settings to resume it, or another --output"
        )
    for text in changed.values():
        print(f"resuming with another {text}", file=sys.stderr, flush=True)


def check_same(folder: Path, info: dict[str, Any], free: Sequence[str] = ()) -> None:
    """For a process that trains with the chief that started the run: raises CvrError where it has other settings, or another folder."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise CvrError(f"--output={folder} is not the chief's folder: all processes need the same one, on a file system that they share")
    changed = _changes(json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(info)))
    refused = [text.replace(" then, ", " in the chief, ").replace(" now", " here") for key, text in changed.items() if key not in free]
    if refused:
        raise CvrError(f"this process trains with other settings than the chief ({'; '.join(refused)}); give all the same command")


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    flat_before = {**before.get("flags", {}), "data": before.get("data"), "spec": before.get("spec_fingerprint"), **_teacher(before)}
    flat_now = {**now.get("flags", {}), "data": now.get("data"), "spec": now.get("spec_fingerprint"), **_teacher(now)}
    keys = [key for key in {**flat_before, **flat_now} if flat_before.get(key) != flat_now.get(key)]
    return {key: f"{key}: {flat_before.get(key)!r} then, {flat_now.get(key)!r} now" for key in keys}


def _teacher(info: dict[str, Any]) -> dict[str, Any]:
    return {f"teacher.{name}": value for name, value in info.get("teacher", {}).items()}


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Inside, no other process of this machine trains in the folder; one that is killed gives it up. Raises CvrError if one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CvrError(f"another process trains in --output={folder}; wait for it, stop it, or choose another folder") from error
        yield


def finish_run(folder: Path, results: dict[str, Any]) -> None:
    """Adds the results and sets the status to `finished`, in one rename."""
    path = folder / RUN_FILE
    info = json.loads(path.read_text(encoding="utf-8"))
    publish_json(path, {**info, **results, "status": "finished"})


def load_run(folder: str | Path) -> Run:
    """Reads a finished run. Raises CvrError when there is none or it is not finished."""
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise CvrError(f"no {RUN_FILE} in {folder}; train a model first: python -m cvr.train --output={folder} ...")
    info = json.loads(path.read_text(encoding="utf-8"))
    if info.get("status") != "finished":
        raise CvrError(f"the run in {folder} is not finished; run the same {info.get('program', 'cvr.train')} command again and it resumes")
    if info.get("program") == PRETRAIN:
        raise CvrError(f"the run in {folder} is a pre-training, which ranks nothing; train a ranker with --warm_start_from={folder}")
    return Run(Path(folder), info, load_spec(Path(folder) / SPEC_FILE))


def load_ranker(folder: str | Path, precision: str | None = None) -> tuple[Ranker, Run]:
    """A finished run's ranker with the weights of its chosen checkpoint, computing in the run's precision or another.

    Raises CvrError when they do not fit.
    """
    run = load_run(folder)
    config = run.config if precision is None else dataclasses.replace(run.config, precision=precision)
    ranker = build_ranker(run.spec, config, dummy_batch(run.spec))
    try:
        status = tf.train.Checkpoint(model=ranker).read(run.checkpoint)
        status.assert_existing_objects_matched()
        status.expect_partial()  # the optimizer's state stays on disk
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise CvrError(f"checkpoint {run.checkpoint} does not fit the run's spec and model: {str(error).splitlines()[0]}") from error
    return ranker, run
