"""Runs the stages of a demo run: one subprocess each, skipped when its published output is there, stopped cleanly."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvr.errors import CvrError
from cvr.manifest import publish_json
from tools.quiet import quiet_stderr

_STATE = "stages.json"
_GRACE_SECONDS = (15.0, 5.0)  # after Ctrl-C, after SIGTERM; then SIGKILL


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    `arguments` follow `python -m`. `output` is the folder or file that is deleted to do the step again, and `published` a
    pattern, relative to it, of what the step publishes last (by default `output` itself). A JSON file that says `status:
    training` or `passed: false` does not count. A step that `resumes` goes on with what an interrupted call of the same
    command left there.
    """

    name: str
    heading: str
    arguments: tuple[str, ...]
    output: Path
    published: str = ""
    resumes: bool = False

    def is_complete(self) -> bool:
        """Whether the step's output is published."""
        found = self.output.glob(self.published) if self.published else [self.output]
        return any(path.exists() and _is_finished(path) for path in found)


class Runner:
    """Runs stages in order inside one run folder, and remembers their commands and seconds in `stages.json`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self._root = root
        self._state_file = folder / _STATE
        self._state: dict[str, dict[str, Any]] = {}
        self._upstream_ran = False
        if self._state_file.is_file():
            self._state = json.loads(self._state_file.read_text(encoding="utf-8"))

    @property
    def seconds(self) -> dict[str, float]:
        """Wall-clock seconds of every stage, also of those that an earlier call ran."""
        return {name: entry["seconds"] for name, entry in self._state.items() if entry["seconds"] is not None}

    def run(self, stage: Stage) -> None:
        """Runs a stage, or skips it where its output is complete, made by the same command and of the same inputs.

        Raises:
          CvrError: if the stage fails, or if its output was made by another command.
        """
        command = shlex.join(stage.arguments)
        if stage.is_complete() and not self._upstream_ran:
            self._check_same(stage, command)
            print(f"== {stage.heading}: kept, {stage.output} is complete", flush=True)
            return
        goes_on = stage.resumes and not self._upstream_ran and self._command(stage) == command
        if not goes_on:
            remove(stage.output)
        self._upstream_ran = True
        self.repeat(stage.name, stage.heading, stage.arguments)

    def repeat(self, name: str, heading: str, arguments: Sequence[str]) -> None:
        """Runs a stage, whatever is there. Raises CvrError if it fails."""
        with self.timed(name, heading, shlex.join(arguments)):
            self.check(name, run_child(arguments, self._root))

    def check(self, name: str, code: int) -> None:
        """Raises CvrError for an exit code other than 0."""
        if code:
            raise CvrError(f"stage {name!r} failed with exit code {code}, see above; finished stages are kept")

    @contextlib.contextmanager
    def timed(self, name: str, heading: str, command: str) -> Iterator[None]:
        """Announces a stage and remembers its command, and its seconds if the block ends well."""
        print(f"\n== {heading}\n   python -m {command}", flush=True)
        started = time.monotonic()
        self._record(name, command, None)
        yield
        self._record(name, command, round(time.monotonic() - started, 2))
        print(f"   {name}: {self.seconds[name]:.1f} s", flush=True)

    def _record(self, name: str, command: str, seconds: float | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._state[name] = {"command": command, "seconds": seconds}
        publish_json(self._state_file, self._state)

    def _command(self, stage: Stage) -> str | None:
        return self._state.get(stage.name, {}).get("command")

    def _check_same(self, stage: Stage, command: str) -> None:
        before = self._command(stage)
        if before != command:
            made = f"by another command ({before})" if before else "by something else than this demo"
            raise CvrError(
                f"{stage.output} was made {made}, this run would use ({command}). "
                "Start anew with --force (make demo ARGS=--force), or give another --run name (make demo RUN=<name>)"
            )


def _is_finished(path: Path) -> bool:
    if path.suffix != ".json":
        return True
    content = json.loads(path.read_text(encoding="utf-8"))
    return content.get("status", "finished") == "finished" and content.get("passed", True)


def remove(path: Path) -> None:
    """Deletes a file or folder tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_child(arguments: Sequence[str], root: Path) -> int:
    """Runs `python -m <arguments>` to its end; returns its exit code. Ctrl-C reaches it first, then this process."""
    with child(arguments, root) as process:
        return process.wait()


@contextlib.contextmanager
def child(arguments: Sequence[str], root: Path, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Starts `python -m <arguments>` in `root`, and stops it with all its own children when the block ends.

    It gets a session of its own, so that one Ctrl-C reaches every process of it exactly once, by way of `stop`. `log`
    receives what it prints; without it, its output is this process's, less TensorFlow's start-up messages and what it
    has to say about an interrupt: this process says that itself.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(log, "wb")) if log else None
        messages = None if log else stack.enter_context(quiet_stderr())
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=root,
            start_new_session=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
            stdout=output,
            stderr=messages.sink if messages else subprocess.STDOUT,
        )
        try:
            yield process
        except KeyboardInterrupt:
            if messages:
                messages.muted.set()
            raise
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group: as Ctrl-C would, then SIGTERM, then SIGKILL, the last at once on another Ctrl-C."""
    try:
        for number, grace in zip((signal.SIGINT, signal.SIGTERM), _GRACE_SECONDS, strict=True):
            if process.poll() is not None:
                break
            _signal_group(process, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def interrupt_on_termination() -> None:
    """Makes SIGTERM and SIGHUP stop this process as Ctrl-C does, so that its children are stopped too."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
