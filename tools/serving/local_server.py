"""`export.serve` in a process of its own, with fixed numbers of threads."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cvr.errors import CvrError
from tools.source_tree import ROOT
from tools.stages import child

START_SECONDS = 180.0
_TICK = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class LocalServer:
    """A running server: host:port and process."""

    target: str
    pid: int

    def cpu_seconds(self) -> float:
        """User and system time so far. Raises CvrError where the server has ended."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def resident_bytes(self) -> int:
        """Resident memory now. Raises CvrError where the server has ended."""
        return 1024 * int(next(line for line in self._proc("status").splitlines() if line.startswith("VmRSS:")).split()[1])

    def _proc(self, name: str) -> str:
        try:
            text = Path(f"/proc/{self.pid}/{name}").read_text(encoding="utf-8")
        except OSError as error:
            raise CvrError(f"the server (process {self.pid}) has ended: {error}") from error
        if name == "status" and "VmRSS:" not in text:
            raise CvrError(f"the server (process {self.pid}) has ended")
        return text


@contextlib.contextmanager
def local_server(base: Path, log: Path, threads: int = 1, flags: Sequence[str] = ()) -> Iterator[LocalServer]:
    """Serves the newest version under a folder on a free port of the loopback interface until the block ends.

    Raises CvrError with the end of its log where it does not start.
    """
    pools = (f"--intra_op_threads={threads}", f"--inter_op_threads={threads}")
    command = ("export.serve", f"--model_base_path={base}", "--port=0", *pools, *flags)
    with child(command, ROOT, log) as process:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"serving model .* on ([\w.:]+:\d+)", log.read_text(errors="replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-2000:]
                raise CvrError(f"python -m {' '.join(command)} did not start; it said:\n{said}")
            time.sleep(0.1)
        yield LocalServer(found.group(1), process.pid)
