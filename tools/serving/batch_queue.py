"""TF's BatchFunction as the simulation sees it (tensorflow/core/kernels/batching_util/shared_batch_scheduler.h, eager splitting).

Rows join the open batch; one that is full is closed and the next one opened, so a large request is split. A thread takes the oldest batch
as soon as it is closed, full, or open for the timeout since its first row. While all threads are busy the open batch goes on filling,
whatever its age. A batch is padded to the next allowed size. A request that needs more batches than may wait is refused.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
from collections.abc import Callable

from export.batching import Batching

Run = Callable[[float, int, Callable[[float], None]], None]
"""(now, padded rows, done): computes a batch."""


@dataclasses.dataclass
class _Batch:
    opened: float
    rows: int = 0
    parts: list[Callable[[float], None]] = dataclasses.field(default_factory=list)


class BatchQueue:
    """Merges requests into batches; `timer(time)` asks for a call of `wake` then."""

    def __init__(self, batching: Batching, run: Run, timer: Callable[[float], None]) -> None:
        self._settings, self._run, self._timer = batching, run, timer
        self._waiting = collections.deque[_Batch]()
        self._idle = batching.threads
        self.batches: list[int] = []
        """Rows of every batch that was begun, before padding."""

    def add(self, now: float, rows: int, done: Callable[[float], None]) -> bool:
        """Enqueues a request's rows; `done(time)` is called when the last of them is computed. False where the queue is full."""
        most = self._settings.allowed_sizes[-1]
        space = most - self._waiting[-1].rows if self._waiting else 0
        new = -(-max(0, rows - space) // most)
        if len(self._waiting) + new > self._settings.max_enqueued:
            return False
        pieces = ([min(rows, space)] if space else []) + [most] * new
        left = rows
        part_done = _countdown(sum(1 for _ in pieces), done)
        for number, piece in enumerate(pieces):
            size = min(piece, left)
            left -= size
            if number or not space:
                self._waiting.append(_Batch(now))
                self._timer(now + self._settings.timeout_ms / 1000)
            self._waiting[-1].rows += size
            self._waiting[-1].parts.append(part_done)
        self.wake(now)
        return True

    def wake(self, now: float) -> None:
        """Gives idle threads what is ready."""
        while self._idle and self._waiting and self._ready(now):
            batch = self._waiting.popleft()
            self._idle -= 1
            self.batches.append(batch.rows)
            self._run(now, padded(batch.rows, self._settings.allowed_sizes), lambda end, batch=batch: self._computed(end, batch))  # type: ignore[misc]

    def _ready(self, now: float) -> bool:
        first = self._waiting[0]
        closed = len(self._waiting) > 1 or first.rows >= self._settings.allowed_sizes[-1]
        return closed or now >= first.opened + self._settings.timeout_ms / 1000

    def _computed(self, now: float, batch: _Batch) -> None:
        self._idle += 1
        self.wake(now)
        for part in batch.parts:
            part(now)


def _countdown(count: int, done: Callable[[float], None]) -> Callable[[float], None]:
    """Calls `done` at the count-th call."""
    left = [count]

    def part(now: float) -> None:
        left[0] -= 1
        if not left[0]:
            done(now)

    return part


def padded(rows: int, allowed: tuple[int, ...]) -> int:
    """The smallest allowed size that holds the rows."""
    return allowed[bisect.bisect_left(allowed, rows)]
