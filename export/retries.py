"""Which failed calls are sent again, when, and how often: only what is safe, within the caller's deadline and a budget.

Every call of the client is idempotent, so what counts is whether another attempt can help and whether it does harm:

    UNAVAILABLE         no connection, a lost one, or a full batch queue: sent again
    RESOURCE_EXHAUSTED  the server's admission limit: sent again; not where a message is larger than allowed
    all others          never: INVALID_ARGUMENT and NOT_FOUND stay as they are, after DEADLINE_EXCEEDED there is no time left

The pause before attempt k + 1 is drawn from [0, min(longest_delay, first_delay 2^(k-1))] (full jitter), so that many clients do not return
at once. The budget keeps retries from multiplying the load on a server that is down.
"""

from __future__ import annotations

import dataclasses
import random
import threading

import grpc

_SAFE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_TOO_LARGE = "larger than max"
"""In gRPC's own message about a request or answer above the size limit, whose status is RESOURCE_EXHAUSTED too."""


@dataclasses.dataclass(frozen=True)
class Retry:
    """`attempts`: calls in all, the first one included; 1 never retries. Delays in seconds.

    `budget`: retries that may be spent at once by all calls of a client; each successful call earns `earned` of one back.
    """

    attempts: int = 4
    first_delay: float = 0.05
    longest_delay: float = 1.0
    budget: float = 20.0
    earned: float = 0.1


class Budget:
    """The retries that a client's calls may still spend; usable from many threads."""

    def __init__(self, retry: Retry) -> None:
        self._retry, self._left, self._lock = retry, retry.budget, threading.Lock()

    def spend(self) -> bool:
        """Takes one retry, if there is one left."""
        with self._lock:
            granted = self._left >= 1.0
            self._left -= float(granted)
            return granted

    def earn(self) -> None:
        """A call succeeded."""
        with self._lock:
            self._left = min(self._retry.budget, self._left + self._retry.earned)


class Attempts:
    """The attempts of one call; `made` counts them."""

    def __init__(self, retry: Retry, budget: Budget) -> None:
        self._retry, self._budget, self.made = retry, budget, 1

    def pause(self, error: grpc.RpcError, seconds_left: float) -> float | None:
        """Seconds to wait before the next attempt; None where the error stands."""
        if error.code() not in _SAFE or _TOO_LARGE in (error.details() or "") or self.made >= self._retry.attempts:
            return None
        delay = random.uniform(0.0, min(self._retry.longest_delay, self._retry.first_delay * 2.0 ** (self.made - 1)))
        if delay >= seconds_left or not self._budget.spend():
            return None
        self.made += 1
        return delay
