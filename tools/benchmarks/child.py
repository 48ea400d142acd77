"""Runs one command of a benchmark in this fresh process and reports what it took. Used by `tools.benchmarks.measure`.

    python -m tools.benchmarks.child REPORT.json CPUS MODULE [--flag=value ...]

The process may use the first CPUS of its CPUs, which fixes the threads of TensorFlow, Arrow, Polars and DuckDB alike. The command is the
one of `python -m MODULE`; its imports and its `entry()` are timed apart. Of a Beam pipeline, the bytes that pass between its steps are
counted where Beam's local runner buffers them, encoded: `shuffle` is what reaches a grouping, `side` what side inputs are made of.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def _cpu_seconds() -> float:
    """User and system time of this process and of the children that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak_bytes(status: str) -> int:
    """The peak resident memory that a text of /proc/<pid>/status names, in bytes."""
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


class Clock:
    """Wall and CPU seconds since the last look."""

    def __init__(self) -> None:
        self._last = (time.monotonic(), _cpu_seconds())

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap."""
        now = (time.monotonic(), _cpu_seconds())
        passed = {"wall": now[0] - self._last[0], "cpu": now[1] - self._last[1]}
        self._last = now
        return passed


def _counting(owner: type, method: str, name: str, counts: dict[str, int]) -> None:
    plain: Callable[[Any, bytes], None] = getattr(owner, method)

    def counted(self: Any, data: bytes) -> None:
        counts[name] += len(data)
        plain(self, data)

    setattr(owner, method, counted)


def count_shuffle() -> dict[str, int]:
    """From now on counts the bytes that pipelines of this process group and give to side inputs; gives the counts, which grow."""
    from apache_beam.runners.portability.fn_api_runner import execution

    counts = {"shuffle": 0, "side": 0}
    _counting(execution.GroupingBuffer, "append", "shuffle", counts)
    _counting(execution.WindowGroupingBuffer, "append", "side", counts)
    return counts


def main(argv: Sequence[str]) -> int:
    """Imports a module, runs its entry and writes the report; gives the entry's exit code."""
    report, cpus, name, *flags = argv[1:]
    allowed = sorted(os.sched_getaffinity(0))[: int(cpus)]
    os.sched_setaffinity(0, allowed)
    clock = Clock()
    module = importlib.import_module(name)
    counts = count_shuffle() if "apache_beam" in sys.modules else {}
    found: dict[str, Any] = {"import": clock.lap(), "cpus": len(allowed)}
    sys.argv = [name, *flags]
    try:
        module.entry()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    found |= {"main": clock.lap(), "beam": counts, "peak": peak_bytes(Path("/proc/self/status").read_text())}
    Path(report).write_text(json.dumps(found), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
