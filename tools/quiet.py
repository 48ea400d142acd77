"""Passes on what a child process writes to stderr, without TensorFlow's start-up messages about GPUs and instruction sets.

They come from C++ before any setting can silence them, several lines per process; ten processes of a demo would bury what matters.
Where this process writes to a terminal, the child gets one too, so that its progress bars stay bars.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|I0000 .*\b(cudart_stub|cpu_feature_guard|tf_record_dataset_op|port|onednn\w*)\.cc:"
    rb"|To enable the following instructions:"
)
_MAYBE_NOISE = (b"WARNING: All", b"I0000", b"To enable")
_PIECE = re.compile(rb"[^\r\n]*(?:\r\n|[\r\n])")


@dataclass(frozen=True)
class Messages:
    """A child's stderr: the file descriptor that it writes to, and whether its messages are dropped from now on."""

    sink: int
    muted: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[Messages]:
    """Yields a place for a child's stderr; all that came through it has been passed on when the block ends."""
    is_terminal = sys.stderr.isatty()
    source, sink = pty.openpty() if is_terminal else os.pipe()
    if is_terminal:
        _copy_window_size(sink)
    sys.stderr.flush()
    messages = Messages(sink)
    thread = threading.Thread(target=pass_on, args=(source, lambda piece: _write(piece, messages)), daemon=True)
    thread.start()
    try:
        yield messages
    finally:
        os.close(sink)
        thread.join(2.0)  # a grandchild that lives on must not hold this process up
        if not thread.is_alive():
            os.close(source)


def pass_on(source: int, write: Callable[[bytes], None]) -> None:
    """Copies a file descriptor to `write` until its end, in pieces that end with a line feed or carriage return, less the noise."""
    pending = b""
    while chunk := _read(source):
        pending += chunk
        done = 0
        for match in _PIECE.finditer(pending):
            done = match.end()
            if not NOISE.match(match.group()):
                write(match.group())
        pending = pending[done:]
        if pending and not any(start.startswith(pending) or pending.startswith(start) for start in _MAYBE_NOISE):
            write(pending)  # a prompt or a progress bar, which ends its line later
            pending = b""
    if pending:
        write(pending)


def _read(source: int) -> bytes:
    try:
        return os.read(source, 65536)
    except OSError:  # a terminal's way of saying that the other side has closed
        return b""


def _write(piece: bytes, messages: Messages) -> None:
    if not messages.muted.is_set():
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), piece)


def _copy_window_size(terminal: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
