"""What a benchmark ran on: the machine, and the versions of what it ran."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.source_tree import ROOT

LIBRARIES = ("apache-beam", "pyarrow", "numpy", "tensorflow", "duckdb", "polars", "isal")


def _field(path: str, key: str) -> str:
    """The first value of a key in a file of `key : value` lines; empty where there is none."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def machine(cpus: int) -> dict[str, Any]:
    """Processor, memory and system; `cpus` is how many the measured processes may use."""
    memory = _field("/proc/meminfo", "MemTotal").split()
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cpus": os.cpu_count(),
        "cpus_used": min(cpus, len(os.sched_getaffinity(0))),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else None,
        "system": platform.platform(),
    }


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Versions of Python, the libraries that are installed, and of this project's sources where they are a git checkout."""
    found = {"python": platform.python_version()}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    described = ["git", "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found["cvr"] = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return found


def report_head(benchmark: str, cpus: int, libraries: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a report begins with; to be made before anything is measured, so that `load` is that of other work."""
    return {
        "format": 1,
        "benchmark": benchmark,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(cpus),
        "versions": versions(libraries),
        "load": os.getloadavg()[0],
        "settings": dict(settings),
    }
