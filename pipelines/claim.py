"""The sole right to write into an output: one build at a time, and a killed one gives its right back.

On this machine's filesystems the claim is a lock of the operating system on `<output>/build.lock`, which ends with its process. On object
stores, which have no locks, it is that object's heartbeat: its holder writes it anew every `BEAT` seconds, and who finds it unchanged for
`PATIENCE` seconds takes it over. No clocks of two machines are compared.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from pipelines.write import is_local, write_bytes

LOCK_NAME = "build.lock"
BEAT = 15.0
PATIENCE = 60.0
SETTLE = 2.0
"""Seconds between a claim and the look whether a build that started at the same moment wrote over it."""


class Claim(Protocol):
    """A context: entering it claims the output or raises CvrError, leaving it gives the claim back."""

    def __enter__(self) -> Claim: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def check(self) -> None:
        """Raises CvrError where the claim was lost; to be asked right before publishing."""


def claim(output: str, build: str) -> Claim:
    """The claim of a build (its id) to an output."""
    return _Lock(output, build) if is_local(output) and _has_locks(output) else _Heartbeat(output, build)


def _has_locks(output: str) -> bool:
    """Whether the filesystem of a local output knows locks; some that stand for object stores do not."""
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY)
    except OSError as error:
        raise CvrError(f"--output={output} cannot be written: {error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(folder)
    return True


def _holder(build: str) -> dict[str, Any]:
    since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"build": build, "host": socket.gethostname(), "process": os.getpid(), "since": since}


def _refusal(output: str, holder: dict[str, Any]) -> CvrError:
    who = ", ".join(f"{key} {holder[key]}" for key in ("build", "host", "process", "since") if key in holder) or "just started"
    return CvrError(f"--output={output}: another build is writing there ({who}); wait for it to end, or give another --output")


class _Lock:
    def __init__(self, output: str, build: str) -> None:
        self._output, self._build = output, build
        self._path = Path(output) / LOCK_NAME
        self._file: IO[str] | None = None

    def __enter__(self) -> Claim:
        try:
            while self._file is None:
                self._file = self._locked()
        except OSError as error:
            raise CvrError(f"--output={self._output} cannot be written: {error}") from error
        self._file.truncate(0)
        self._file.write(json.dumps(_holder(self._build)))
        self._file.flush()
        return self

    def _locked(self) -> IO[str] | None:
        """The lock file, locked; None where its holder removed it meanwhile."""
        file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115  closed on exit
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                raise _refusal(self._output, json.loads(file.read() or "{}")) from None
        if self._is_there(file):
            return file
        file.close()
        return None

    def _is_there(self, file: IO[str]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)  # while it is locked: who waits for it sees that it is gone
            self._file.close()

    def check(self) -> None:
        if self._file is None or not self._is_there(self._file):
            raise CvrError(f"{self._path} was removed while this build ran; nothing was published, build again")


class _Heartbeat:
    def __init__(self, output: str, build: str) -> None:
        self._output, self._holder = output, _holder(build)
        self._path = FileSystems.join(output, LOCK_NAME)
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="build.lock", daemon=True)

    def __enter__(self) -> Claim:
        try:
            self._wait_for_silence()
            self._beat()
            time.sleep(SETTLE)
            self.check()
        except OSError as error:
            raise CvrError(f"--output={self._output} cannot be written: {error}") from error
        self._thread.start()
        return self

    def _read(self) -> dict[str, Any]:
        if not FileSystems.exists(self._path):
            return {}
        with FileSystems.open(self._path) as file:
            return json.loads(file.read() or b"{}")

    def _beat(self) -> None:
        self._beats += 1
        write_bytes(self._path, json.dumps({**self._holder, "beat": self._beats}).encode())

    def _wait_for_silence(self) -> None:
        found, end = self._read(), time.monotonic() + PATIENCE
        if found:
            logging.warning("%s is there: waiting up to %g s to see whether its build is alive", self._path, PATIENCE)
        while found and time.monotonic() < end:
            time.sleep(BEAT / 5)
            now = self._read()
            if now and now != found:
                raise _refusal(self._output, now)
            found = now

    def _keep(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):  # the next beat tries again, and check() looks before publishing
                if self._read().get("build") != self._holder["build"]:
                    return
                self._beat()

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # what stays behind is taken over after PATIENCE
            if self._read().get("build") == self._holder["build"]:
                FileSystems.delete([self._path])

    def check(self) -> None:
        found = self._read()
        if found.get("build") != self._holder["build"]:
            raise _refusal(self._output, found)
