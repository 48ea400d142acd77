"""A discrete-event simulation of one server under open-loop load (docs/capacity.md).

A request is sent by the client, waits for a worker of the server, has its turn at the serial work, is handled, waits in the batch queue for
its rows to be computed, and is answered. Everything that works shares the cores.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable

import numpy as np

from export.batching import Batching
from tools.serving.batch_queue import BatchQueue
from tools.serving.curves import Curve, Machine
from tools.serving.sharing import INFINITE, Cores, Turnstile

ANY = 1 << 60
_Start = Callable[[float, float, Callable[[float], None]], None]


@dataclasses.dataclass(frozen=True)
class Simulated:
    """`latency`: seconds from arrival to answer, NaN where the queue refused the request; `batches`: rows of each batch.

    `cores`, `device`: their average work in progress over `length` seconds, from the first arrival to the last answer.
    """

    latency: np.ndarray
    batches: np.ndarray
    cores: float
    device: float
    length: float

    @property
    def refused(self) -> int:
        """Requests that the full queue refused."""
        return int(np.isnan(self.latency).sum())

    def quantile_ms(self, q: float) -> float:
        """Latency quantile over all requests in ms, a refused one counting as infinite; the smallest value that q of them do not exceed."""
        values = np.sort(np.where(np.isnan(self.latency), np.inf, self.latency))
        return 1000 * float(values[max(0, int(np.ceil(q * len(values))) - 1)])


def poisson(rate: float, count: int, seed: int) -> np.ndarray:
    """Arrival times in seconds of a Poisson process."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


class _Server:
    """The run of one simulation."""

    def __init__(self, machine: Machine, batching: Batching, source: np.random.Generator) -> None:
        self.machine, self._source = machine, source
        self.cores = Cores(machine.cpus)
        self.device = Cores(1)
        self.timers: list[float] = []
        self.queue = BatchQueue(batching, self._compute, lambda at: heapq.heappush(self.timers, at))
        self.client, self.lock = Turnstile(self.cores), Turnstile(self.cores)
        self.free = machine.workers or ANY
        self.waiting: list[Callable[[float], None]] = []
        self.taken = 0
        self._draws: dict[int, list[float]] = {}

    def draw(self, curve: Curve, size: int) -> float:
        """A time of a curve, with its spread."""
        mean = curve.seconds(size)
        if len(curve.spread) == 1:
            return mean * curve.spread[0]
        drawn = self._draws.setdefault(id(curve), [])
        if not drawn:
            drawn.extend(self._source.choice(curve.spread, 4096).tolist())
        return mean * drawn.pop()

    def _compute(self, now: float, rows: int, done: Callable[[float], None]) -> None:
        work = self.draw(self.machine.batch, rows)
        (self.device if self.machine.device else self.cores).start(now, work, done)

    def enter(self, now: float, begin: Callable[[float], None]) -> None:
        """Begins when a worker is free."""
        if self.free:
            self.free -= 1
            begin(now)
        else:
            self.waiting.append(begin)

    def leave(self, now: float) -> None:
        """Gives the worker to the next request."""
        self.free += 1
        if self.taken < len(self.waiting):
            self.taken += 1
            self.free -= 1
            self.waiting[self.taken - 1](now)

    def request(self, now: float, items: int, answer: Callable[[float, bool], None]) -> None:
        """The way of one request; `answer(time, good)` ends it."""
        machine = self.machine
        half = self.draw(machine.client, items) / 2

        def computed(at: float) -> None:
            self.leave(at)
            _skip_or(self.client.start, at, half, lambda end: answer(end, True))

        def handled(at: float) -> None:
            if not self.queue.add(at, items, computed):
                self.leave(at)
                answer(at, False)

        def unlocked(at: float) -> None:
            _skip_or(self.cores.start, at, self.draw(machine.handler, items), handled)

        def begun(at: float) -> None:
            _skip_or(self.lock.start, at, self.draw(machine.serial, items), unlocked)

        _skip_or(self.client.start, now, half, lambda end: self.enter(end, begun))


def _skip_or(start: _Start, now: float, work: float, done: Callable[[float], None]) -> None:
    """Starts the work, or goes on at once where there is none."""
    if work > 0:
        start(now, work, done)
    else:
        done(now)


def simulate(machine: Machine, batching: Batching, arrivals: np.ndarray, items: np.ndarray, seed: int = 0) -> Simulated:
    """Plays requests of `items` rows at the rising times `arrivals` (s) against a server; `seed` draws its service times."""
    server = _Server(machine, batching, np.random.default_rng(seed))
    latency = np.full(len(arrivals), np.nan)
    times, sizes = [*arrivals.tolist(), INFINITE], items.tolist()
    place, now = 0, 0.0

    def answered(number: int) -> Callable[[float, bool], None]:
        def answer(at: float, good: bool) -> None:
            latency[number] = at - times[number] if good else np.nan

        return answer

    while True:
        timer = server.timers[0] if server.timers else INFINITE
        cores, device = server.cores.next_end(), server.device.next_end()
        following = min(times[place], timer, cores, device)
        if following == INFINITE:
            break
        now = following
        if now == cores:
            server.cores.finish(now)
        elif now == device:
            server.device.finish(now)
        elif now == times[place]:
            place += 1
            server.request(now, sizes[place - 1], answered(place - 1))
        else:
            heapq.heappop(server.timers)
            server.queue.wake(now)
    length = max(now - times[0], 1e-12)
    return Simulated(latency, np.array(server.queue.batches), server.cores.busy / length, server.device.busy / length, length)
