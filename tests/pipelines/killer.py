"""Builds that are killed: `python -m tests.pipelines.killer <log> <output>` imports everything once and forks a build per input line.

A line says when the build's process group gets SIGKILL: `record 2` while its second record file is half written, `counts` before the
counts are written, `publish` right before the manifest's rename, `seconds 0.4`, or `never`. The answer is one line, `killed` or `ended`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvr import manifest
from pipelines import write
from pipelines.job import build
from tests.pipelines.logs import settings


def _die(*arguments: Any) -> None:
    os.killpg(0, signal.SIGKILL)


def _half_written(number: int) -> Callable[[str, bytes], None]:
    """`write_bytes` that dies with its process after half of record file `number`."""
    real, written = write.write_bytes, 0

    def write_bytes(path: str, data: bytes) -> None:
        nonlocal written
        written += path.endswith(".tfrecord.gz")
        if path.endswith(".tfrecord.gz") and written == number:
            real(path, data[: len(data) // 2])
            _die()
        real(path, data)

    return write_bytes


def _before_counts(path: str, data: bytes, real: Callable[[str, bytes], None] = write.write_bytes) -> None:
    if path.endswith("counts.json"):
        _die()
    real(path, data)


def _prepare(moment: str, value: float) -> None:
    if moment == "record":
        write.write_bytes = _half_written(int(value))
    elif moment == "counts":
        write.write_bytes = _before_counts
    elif moment == "publish":
        manifest.os.replace = _die  # type: ignore[attr-defined, assignment]


def _build_in_child(log: Path, output: Path, moment: str, value: float) -> str:
    child = os.fork()
    os.setpgid(child, child)  # in both processes, as either may be the first to need it
    if not child:
        _prepare(moment, value)
        build(settings(log, output))
        os._exit(0)
    if moment == "seconds":
        time.sleep(value)
        os.killpg(child, signal.SIGKILL)  # not waited for yet, so the id is still this child's
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed"
    return "ended" if status == 0 else f"failed {status}"


def main() -> None:
    """Reads moments from standard input until it ends."""
    log, output = (Path(path) for path in sys.argv[1:3])
    for line in sys.stdin:
        moment, _, value = line.strip().partition(" ")
        print(_build_in_child(log, output, moment, float(value or 0)), flush=True)


if __name__ == "__main__":
    main()
