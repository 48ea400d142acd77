"""How many requests are worked on, how many wait for that, and what the others hear."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

import grpc

from cvr.errors import CvrError
from export.refusals import RefusedError

_LOOK_AGAIN_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Capacity:
    """`workers` requests are computed at a time, `in_flight` computed or waiting; none, and no answer, exceeds `message_mb` MiB."""

    workers: int = 16
    in_flight: int = 128
    message_mb: int = 64

    def __post_init__(self) -> None:
        """Raises CvrError where fewer requests may be in flight than are computed at a time."""
        if self.in_flight < self.workers:
            raise CvrError(f"--max_in_flight={self.in_flight} must be at least --max_workers={self.workers}")


class Admission:
    """Lets requests in by their turn; `in_flight` counts those inside."""

    def __init__(self, capacity: Capacity) -> None:
        self._limit = capacity.in_flight
        self._slots = threading.Semaphore(capacity.workers)
        self._lock = threading.Lock()
        self.in_flight = 0

    @contextlib.contextmanager
    def admit(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Waits for a free worker.

        Raises RefusedError: RESOURCE_EXHAUSTED at once where too many are in flight, DEADLINE_EXCEEDED where the request's deadline passes
        first, CANCELLED where the client went away.
        """
        with self._lock:
            if self.in_flight >= self._limit:
                message = f"{self._limit} requests are in flight, as many as --max_in_flight allows; try again later or elsewhere"
                raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
            self.in_flight += 1
        try:
            self._wait(context)
            with contextlib.ExitStack() as stack:
                stack.callback(self._slots.release)
                _check_wanted(context)
                yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def _wait(self, context: grpc.ServicerContext) -> None:
        while not self._slots.acquire(blocking=False):
            _check_wanted(context)
            left = context.time_remaining()
            if self._slots.acquire(timeout=_LOOK_AGAIN_SECONDS if left is None else min(left, _LOOK_AGAIN_SECONDS)):
                return


def _check_wanted(context: grpc.ServicerContext) -> None:
    left = context.time_remaining()
    if left is not None and left <= 0:
        raise RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the request was computed")
    if not context.is_active():
        raise RefusedError(grpc.StatusCode.CANCELLED, "the client went away before the request was computed")
