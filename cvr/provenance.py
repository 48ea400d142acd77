"""Where a run came from: the commit of this project's sources, and the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import tensorflow as tf

ROOT = Path(__file__).resolve().parents[1]


def provenance() -> dict[str, Any]:
    """`commit` and `machine`, as `run.json` has them."""
    return {"commit": commit(), "machine": machine()}


def commit(root: Path = ROOT) -> str | None:
    """Commit of the git checkout whose top is `root`, ending in -dirty with uncommitted changes; None where `root` is no such top."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None


def machine() -> dict[str, Any]:
    """Processor, number of CPUs, GPUs and system."""
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in tf.config.list_physical_devices("GPU")]
    return {"processor": _processor(), "cpus": os.cpu_count(), "gpus": gpus, "system": platform.platform()}


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor()
