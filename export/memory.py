"""What loading and unloading versions cost the requests beside them: memory that is given back, an interpreter that is shared."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Frees what unloaded versions left in reference cycles, and on Linux has glibc return the pages that this emptied.

    A graph of TensorFlow is such a cycle, and glibc keeps what each thread freed for that thread: without both a server grows by some
    30 MiB with every version.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


def share_interpreter() -> None:
    """For a process that serves: threads take turns ten times as often, and collections skip what was imported.

    A version that is being loaded keeps Python's interpreter busy, and a request that passes it twenty times could wait for 100 ms at the
    default of 5 ms a turn. That is reckoned: apart from the versions' own thread pools its effect was not measured.
    """
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
