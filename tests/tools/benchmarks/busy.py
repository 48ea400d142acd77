"""A command for the tests of measuring: it and a child of it hold memory and use CPU time at once.

    python -m tests.tools.benchmarks.busy MEBIBYTES SECONDS
"""

from __future__ import annotations

import subprocess
import sys
import time

CHILD = "import sys, time; block = bytearray(int(sys.argv[1]) << 20)\nwhile time.process_time() < float(sys.argv[2]): pass"


def entry() -> None:
    """Holds the memory until its own CPU seconds and its child's are used up; a negative number of seconds is an error."""
    mebibytes, seconds = int(sys.argv[1]), float(sys.argv[2])
    if seconds < 0:
        sys.exit(f"no {seconds} seconds")
    block = bytearray(mebibytes << 20)
    with subprocess.Popen([sys.executable, "-c", CHILD, sys.argv[1], sys.argv[2]]) as child:
        started = time.process_time()
        while time.process_time() - started < seconds:
            pass
        child.wait()
    assert len(block) == mebibytes << 20


if __name__ == "__main__":
    entry()
