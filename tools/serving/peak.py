"""The greatest load that keeps a latency limit, found in few probes, for several servers in turns.

The rule: the arrival rate is doubled from the first one until the limit is broken (or halved until it holds), then the gap between the
highest rate that holds and the lowest that does not is halved (geometrically) until their ratio is at most `tolerance`. A rate holds when
the median over the repeats of P99, in which failed requests count as never answered, is within the limit. The peak is the median of the
items per second that were ranked at the highest rate that held below all that did not.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

LEAST_RATE = 0.25
"""Requests a second below which no server is tried."""
MOST_RATE = 1e7


@dataclasses.dataclass(frozen=True)
class Probe:
    """What one rate gave: requests a second, P99 in ms, items a second, and whether the generator kept up."""

    rate: float
    p99_ms: float
    items_per_second: float
    kept_up: bool = True


Play = Callable[[float, int], Probe]
"""(rate, seed) -> one phase."""
Key = TypeVar("Key", bound=Hashable)


def median_probe(probes: Sequence[Probe]) -> Probe:
    """Repeats of one rate as one."""
    p99, items = (statistics.median(getattr(probe, name) for probe in probes) for name in ("p99_ms", "items_per_second"))
    return Probe(probes[0].rate, p99, items, all(probe.kept_up for probe in probes))


@dataclasses.dataclass(frozen=True)
class Peak:
    """Where a search came to: the best probe that held (None where none did) and the lowest that did not."""

    limit_ms: float
    held: Probe | None
    broke: Probe | None

    @property
    def items_per_second(self) -> float:
        """The peak; 0 where no rate held."""
        return self.held.items_per_second if self.held else 0.0

    @property
    def of_generator(self) -> bool:
        """Whether the load generator, not the server, may be what broke the limit."""
        return self.broke is not None and not self.broke.kept_up

    def to_json(self) -> dict[str, Any]:
        """As a report keeps it; infinite latencies as null."""
        entries = {name: probe and _finite(dataclasses.asdict(probe)) for name, probe in (("held", self.held), ("broke", self.broke))}
        return {"limit_ms": self.limit_ms, "items_per_second": self.items_per_second, "of_generator": self.of_generator, **entries}


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value == math.inf else value for key, value in entry.items()}


def peak_of(probes: Mapping[float, Probe], limit_ms: float) -> Peak:
    """The bracket that the probes of one server give for a limit."""
    broke = min((p for p in probes.values() if p.p99_ms > limit_ms), key=lambda p: p.rate, default=None)
    held = [p for p in probes.values() if p.p99_ms <= limit_ms and (broke is None or p.rate < broke.rate)]
    return Peak(limit_ms, max(held, key=lambda p: p.rate, default=None), broke)


def next_rate(probes: Mapping[float, Probe], limit_ms: float, first: float, tolerance: float) -> float | None:
    """The rate to try next; None where the peak is known to within the tolerance."""
    peak = peak_of(probes, limit_ms)
    if peak.held is None and peak.broke is None:
        return first
    if peak.broke is None:
        assert peak.held is not None
        return 2 * peak.held.rate if peak.held.rate < MOST_RATE else None
    if peak.held is None:
        return peak.broke.rate / 2 if peak.broke.rate > LEAST_RATE else None
    if peak.broke.rate <= tolerance * peak.held.rate:
        return None
    return math.sqrt(peak.held.rate * peak.broke.rate)


@dataclasses.dataclass(frozen=True)
class Effort:
    """How hard a search looks: the first rate, repeats of a probe, and the ratio of rates at which it ends."""

    first: float = 50.0
    repeats: int = 3
    tolerance: float = 1.06


def search(
    servers: Mapping[Key, Play],
    limits_ms: Sequence[float],
    effort: Effort,
    probes: dict[Key, dict[float, Probe]] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[Key, list[Peak]]:
    """Peaks by server, one per limit. All servers take turns with each phase, and one server's probes serve all limits.

    `probes` are those of an earlier search, which goes on from them; it gets the new ones.
    """
    probes = {} if probes is None else probes
    for key in servers:
        probes.setdefault(key, {})
    while wanted := _wanted(servers, limits_ms, effort, probes):
        found: dict[Key, list[Probe]] = {key: [] for key in wanted}
        for repeat in range(effort.repeats):
            for key, rate in wanted.items():
                found[key].append(servers[key](rate, 1 + repeat + effort.repeats * len(probes[key])))
        for key, rate in wanted.items():
            probes[key][rate] = probe = median_probe(found[key])
            note = "" if probe.kept_up else ", the generator did not keep up"
            say(f"{key}: {rate:.1f} requests/s, P99 {probe.p99_ms:.1f} ms, {probe.items_per_second:,.0f} items/s{note}")
    return {key: [peak_of(probes[key], limit) for limit in limits_ms] for key in servers}


def _wanted(
    servers: Mapping[Key, Play], limits_ms: Sequence[float], effort: Effort, probes: Mapping[Key, Mapping[float, Probe]]
) -> dict[Key, float]:
    wanted = {}
    for key in servers:
        rates = (next_rate(probes[key], limit, effort.first, effort.tolerance) for limit in limits_ms)
        rate = next((rate for rate in rates if rate is not None), None)
        if rate is not None:
            wanted[key] = rate
    return wanted
