"""Work that shares cores evenly, as an operating system shares them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

INFINITE = float("inf")


class Cores:
    """Jobs in progress on `count` cores: each goes on at rate min(1, count / jobs), so none gets more than one core.

    Kept in virtual time, which runs at that rate: a job of w seconds that starts at virtual time v ends at v + w.
    """

    def __init__(self, count: float) -> None:
        self._count = count
        self._jobs: list[tuple[float, int, Callable[[float], None]]] = []
        self._virtual, self._updated = 0.0, 0.0
        self._numbers = itertools.count()
        self.busy = 0.0
        """Core-seconds of work done."""

    def _rate(self) -> float:
        return min(1.0, self._count / len(self._jobs)) if self._jobs else 0.0

    def _advance(self, now: float) -> None:
        passed = now - self._updated
        self._virtual += passed * self._rate()
        self.busy += passed * self._rate() * len(self._jobs)
        self._updated = now

    def start(self, now: float, work: float, done: Callable[[float], None]) -> None:
        """Begins a job of `work` core-seconds; `done(time)` is called at its end."""
        self._advance(now)
        heapq.heappush(self._jobs, (self._virtual + work, next(self._numbers), done))

    def next_end(self) -> float:
        """When the first of the jobs ends if none is added; infinite where there is none."""
        if not self._jobs:
            return INFINITE
        return self._updated + max(0.0, self._jobs[0][0] - self._virtual) / self._rate()

    def finish(self, now: float) -> None:
        """Ends that job, at the time that `next_end` gave."""
        self._advance(now)
        end, _, done = heapq.heappop(self._jobs)
        self._virtual = end
        done(now)


class Turnstile:
    """Lets `places` jobs on to the cores at a time, the others in the order in which they came."""

    def __init__(self, cores: Cores, places: int = 1) -> None:
        self._cores, self._free = cores, places
        self._waiting: list[tuple[float, Callable[[float], None]]] = []
        self._next = 0

    def start(self, now: float, work: float, done: Callable[[float], None]) -> None:
        """Begins a job, or queues it."""
        if not self._free:
            self._waiting.append((work, done))
            return
        self._free -= 1
        self._cores.start(now, work, lambda end: self._finish(end, done))

    def _finish(self, now: float, done: Callable[[float], None]) -> None:
        self._free += 1
        if self._next < len(self._waiting):
            work, following = self._waiting[self._next]
            self._next += 1
            self.start(now, work, following)
        done(now)
