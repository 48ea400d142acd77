"""Runs a command as a process of its own and says what it took: wall and CPU seconds, peak memory, bytes between Beam's steps.

CPU seconds are the process's and its children's. Peak memory is the greater of the process's own high-water mark, exact, and of the sum
over all processes of its session, looked at ten times a second; pages that processes share count once for each of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cvr.errors import CvrError
from cvr.manifest import MANIFEST_NAME, load_manifest
from tools.source_tree import ROOT
from tools.stages import child

_PAUSE = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOG_TAIL = 2_000


@dataclasses.dataclass(frozen=True)
class Run:
    """What one command took: seconds, bytes; `load` is the machine's load average of a minute just before it.

    `wall` and `cpu` are of the whole process; `import_*` of loading its modules, `main_*` of what came then, up to its end.
    """

    command: str
    wall: float
    cpu: float
    import_wall: float
    import_cpu: float
    main_wall: float
    main_cpu: float
    peak: int
    shuffle: int
    side: int
    load: float


def _session_memory(session: int) -> int:
    """Resident bytes of all processes of a session."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(after_name[3]) == session:
                    total += int((entry / "statm").read_text().split()[1]) * _PAGE
            except (OSError, IndexError):
                continue  # ended meanwhile
    return total


@contextlib.contextmanager
def _watched(session: int) -> Iterator[list[int]]:
    """Yields a list of one number, the greatest memory of the session so far; it is watched until the block ends."""
    seen, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(_PAUSE):
            seen[0] = max(seen[0], _session_memory(session))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def run(module: str, flags: Sequence[str], cpus: int, folder: Path) -> Run:
    """Runs `python -m <module> <flags>` on that many CPUs; its report and output go to `folder`.

    Raises CvrError with the end of its output where it fails, and on a machine without /proc.
    """
    if not Path("/proc/self/status").exists():
        raise CvrError("benchmarks read peak memory from /proc, which this machine does not have; run them on Linux")
    folder.mkdir(parents=True, exist_ok=True)
    report, log = folder / "report.json", folder / "output.txt"
    report.unlink(missing_ok=True)
    load, before, started = os.getloadavg()[0], _children_cpu(), time.monotonic()
    with (
        child(["tools.benchmarks.child", str(report), str(cpus), module, *flags], ROOT, log) as process,
        _watched(process.pid) as seen,
    ):
        process.wait()
    wall, cpu = time.monotonic() - started, _children_cpu() - before
    command = " ".join(["python -m", module, *flags])
    if process.returncode or not report.exists():
        said = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
        raise CvrError(f"{command} ended with exit code {process.returncode}; it said:\n{said}")
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return Run(
        command=command,
        wall=wall,
        cpu=cpu,
        **{f"{phase}_{kind}": found[phase][kind] for phase in ("import", "main") for kind in ("wall", "cpu")},
        peak=max(*seen, found["peak"]),
        shuffle=found["beam"].get("shuffle", 0) + _spilled(flags),
        side=found["beam"].get("side", 0),
        load=load,
    )


def _spilled(flags: Sequence[str]) -> int:
    """The bytes that a build shuffled through files; 0 where nothing was."""
    folder = next((flag.partition("=")[2] for flag in flags if flag.startswith("--output=")), "")
    if not (Path(folder) / MANIFEST_NAME).is_file():
        return 0
    return load_manifest(folder).costs.get("spilled_bytes", 0)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
