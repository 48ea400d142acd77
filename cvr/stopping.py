"""Ctrl-C and SIGTERM while training: the step in progress is finished, the work saved, and the command says so."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Stopped(BaseException):
    """Training stopped on a signal after saving its work; `exit_code` is 128 + the signal's number, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class StopRequest:
    """Whether a signal has asked the training to stop."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def check(self, total: Callable[[float], float] = float) -> None:
        """Raises Stopped if a signal came, to this process or, with a `total` over all of them, to any."""
        if total(self._signal is not None):
            raise Stopped(self._signal or signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._signal is not None:  # the second one ends the process at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._signal = number
        os.write(2, f"\n{signal.Signals(number).name}: finishing the step and saving; once more to stop at once\n".encode())


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside, Ctrl-C and SIGTERM only ask to stop. Outside the main thread, which alone receives signals, nothing changes."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
