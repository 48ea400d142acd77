"""The search for the batching with the greatest load within a latency limit: successive halving over running servers."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from cvr.errors import CvrError
from export.batching import Batching
from tools.serving.peak import Effort, Peak, Play, Probe, peak_of, search

ROUNDS = ((1, 1.5), (2, 1.2), (3, 1.06))
"""Repeats of a probe, and the ratio of arrival rates at which a search ends, by round; half of the candidates reach the next one."""
Open = Callable[[Batching], contextlib.AbstractContextManager[Play]]


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A candidate, its peak, and the round after which it was dropped: the last for those that stayed to the end."""

    batching: Batching
    peak: Peak
    rounds: int

    @property
    def bounds(self) -> tuple[float, float]:
        """Items a second at the highest rate that held and at the lowest that broke; the latter in proportion to the rates."""
        low = self.peak.items_per_second
        if self.peak.held is None or self.peak.broke is None:
            return low, low
        return low, low * self.peak.broke.rate / self.peak.held.rate

    def to_json(self) -> dict[str, Any]:
        """As a report keeps it."""
        return {"batching": dataclasses.asdict(self.batching), "rounds": self.rounds, "peak": self.peak.to_json(), "bounds": self.bounds}


def candidates(before: Batching, timeouts: Sequence[float], sizes: Sequence[tuple[int, ...]], threads: Sequence[int]) -> list[Batching]:
    """All combinations, the batching as it is first. Raises CvrError for one that cannot work."""
    found = [
        dataclasses.replace(before, timeout_ms=timeout, allowed_sizes=allowed, threads=number)
        for timeout, allowed, number in itertools.product(timeouts, sizes, threads)
    ]
    return list(dict.fromkeys([before, *found]))


def name_of(batching: Batching) -> str:
    """`5 ms, 32-128-512, 2 threads`."""
    sizes = "-".join(map(str, batching.allowed_sizes))
    return f"{batching.timeout_ms:g} ms, {sizes}, {batching.threads} thread{'s' * (batching.threads > 1)}"


def halve(
    chosen: Sequence[Batching], open_server: Open, limit_ms: float, first: float, say: Callable[[str], None] = lambda line: None
) -> list[Tuned]:
    """Candidates by peak, best first. Within a round all servers run and take turns; the better half goes on to a more exact one.

    Raises CvrError where no candidate holds the limit.
    """
    probes: dict[str, dict[float, Probe]] = {}
    named = {name_of(batching): batching for batching in chosen}
    dropped: list[Tuned] = []
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, batching in named.items():
            own = stack.enter_context(contextlib.ExitStack())
            servers[name] = (own.enter_context(open_server(batching)), own)
        for number, (repeats, tolerance) in enumerate(ROUNDS, 1):
            playing = {name: play for name, (play, _) in servers.items()}
            if number == len(ROUNDS):
                probes = {}  # what decides is measured anew, for all in the same minutes
            search(playing, [limit_ms], Effort(first, repeats, tolerance), probes, say)
            ranked = _ranked([Tuned(named[name], peak_of(probes[name], limit_ms), number) for name in servers])
            if ranked[0].peak.held is None:
                raise CvrError(f"no batching keeps P99 within {limit_ms:g} ms at any load; give a higher --p99_ms")
            stay = ranked if number == len(ROUNDS) else ranked[: max(2, -(-len(ranked) // 2))]
            for loser in ranked[len(stay) :]:
                dropped.append(loser)
                servers.pop(name_of(loser.batching))[1].close()
    return stay + _ranked(dropped)


def _ranked(found: Sequence[Tuned]) -> list[Tuned]:
    """By rounds, then by the geometric middle of the bounds."""
    return sorted(found, key=lambda tuned: (-tuned.rounds, -tuned.bounds[0] * tuned.bounds[1]))


def flagfile(batching: Batching) -> str:
    """Flags of export.save for a batching."""
    return (
        f"--allowed_batch_sizes={','.join(map(str, batching.allowed_sizes))}\n--batch_timeout_ms={batching.timeout_ms:g}\n"
        f"--batch_threads={batching.threads}\n--max_enqueued_batches={batching.max_enqueued}\n"
        f"--max_request_items={batching.max_request_items}\n"
    )
