"""TensorFlow's start-up noise is left out of a child's stderr, and nothing else is."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tools.quiet import pass_on, quiet_stderr

NOISE = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795332918.856404   16318 cudart_stub.cc:31] Could not find cuda drivers, GPU will not be used.\n"
    b"To enable the following instructions: AVX2 FMA, rebuild TensorFlow with the appropriate compiler flags.\n"
)
KEPT = b"\r 10%|#  | 1/10\r 20%|## | 2/10\nW0000 00:00:1 7 graph.cc:9] a warning\nerror: no such file\nWARNING: another one\n"


def _passed(chunks: list[bytes]) -> list[bytes]:
    source, sink = os.pipe()
    for chunk in chunks:
        os.write(sink, chunk)
    os.close(sink)
    pieces: list[bytes] = []
    pass_on(source, pieces.append)
    os.close(source)
    return pieces


def test_noise_goes_and_the_rest_stays() -> None:
    assert b"".join(_passed([NOISE + KEPT + NOISE])) == KEPT


def test_a_line_without_an_end_is_not_lost() -> None:
    assert b"".join(_passed([NOISE + b"killed"])) == b"killed"
    assert b"".join(_passed([b"I0000 half a line"])) == b"I0000 half a line"


@pytest.mark.parametrize("size", [1, 7, 40])
def test_reads_of_any_size_give_the_same(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, read = NOISE + KEPT + NOISE, os.read
    monkeypatch.setattr("tools.quiet.os.read", lambda source, count: read(source, size))
    assert b"".join(_passed([whole])) == KEPT


def test_a_childs_messages_reach_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    program = f"import sys; sys.stderr.buffer.write({NOISE + KEPT!r})"
    with quiet_stderr() as messages:
        subprocess.run([sys.executable, "-c", program], stderr=messages.sink, check=True)
    assert capfd.readouterr().err.encode().replace(b"\r\n", b"\n") == KEPT


def test_in_a_terminal_the_child_sees_a_terminal_of_the_same_width() -> None:
    """Runs in a terminal of its own of 37 columns; the child writes what it sees."""
    child = "import os, sys; sys.stderr.write(f'{sys.stderr.isatty()} {os.get_terminal_size(2).columns}')"
    program = (
        "import subprocess, sys\nfrom tools.quiet import quiet_stderr\n"
        f"with quiet_stderr() as m: subprocess.run([sys.executable, '-c', {child!r}], stderr=m.sink)"
    )
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 37, 0, 0))
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], stderr=slave, cwd=root, check=True)
    assert os.read(master, 1000) == b"True 37"
    os.close(slave)
    os.close(master)
