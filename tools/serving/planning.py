"""What a simulated server can do, and how many of them some traffic needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.batching import Batching
from tools.serving.curves import Machine
from tools.serving.peak import Effort, Peak, Play, Probe, search
from tools.serving.simulation import Simulated, poisson, simulate


def run(machine: Machine, batching: Batching, lengths: Sequence[int], rate: float, count: int, seed: int) -> Simulated:
    """`count` requests with lengths drawn from `lengths`, arriving as a Poisson process."""
    items = np.random.default_rng(seed + 1_000_003).choice(np.asarray(lengths), count)
    return simulate(machine, batching, poisson(rate, count, seed), items, seed)


def simulated_play(machine: Machine, batching: Batching, lengths: Sequence[int], count: int) -> Play:
    """A server for `tools.serving.peak.search`. The items per second are those that were not refused."""
    mean = float(np.mean(lengths))

    def play(rate: float, seed: int) -> Probe:
        found = run(machine, batching, lengths, rate, count, seed)
        answered = len(found.latency) - found.refused
        return Probe(rate, found.quantile_ms(0.99), mean * answered / found.length)

    return play


def peaks_by_timeout(
    machine: Machine, batching: Batching, timeouts: Sequence[float], lengths: Sequence[int], limits_ms: Sequence[float], count: int,
    effort: Effort,
) -> dict[float, list[Peak]]:  # fmt: skip
    """The peaks of one server with each batch timeout."""
    servers = {
        timeout: simulated_play(machine, dataclasses.replace(batching, timeout_ms=timeout), lengths, count) for timeout in timeouts
    }
    return search(servers, limits_ms, effort)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a fleet must hold: requests a second within P99 `limit_ms`; `price` of an instance-hour; `spare` instances that may fail."""

    rate: float
    limit_ms: float
    price: float
    spare: int = 1


@dataclasses.dataclass(frozen=True)
class Fleet:
    """A fleet with one batch timeout. `peak_rate`: requests a second that one instance holds; 0 instances where none holds the limit.

    `p99_ms`, `p99_ms_without_spare`: at its share of the traffic when all instances run, and when the spare ones have failed. `cores`,
    `device`: the average work in progress on an instance when all run.
    """

    timeout_ms: float
    peak_rate: float
    instances: int
    p99_ms: float
    p99_ms_without_spare: float
    cores: float
    device: float
    cost_per_hour: float
    cost_per_million: float

    def to_json(self) -> dict[str, Any]:
        """As a report keeps it; infinite numbers as null."""
        return {key: None if value == math.inf else value for key, value in dataclasses.asdict(self).items()}


def fleet(machine: Machine, batching: Batching, lengths: Sequence[int], traffic: Traffic, peak: Peak, count: int) -> Fleet:
    """The smallest fleet for the traffic, which a balancer spreads at random: each instance's share of a Poisson process is one."""
    if peak.held is None:
        return Fleet(batching.timeout_ms, 0.0, 0, math.inf, math.inf, 0.0, 0.0, math.inf, math.inf)
    needed = math.ceil(traffic.rate / peak.held.rate)
    instances = needed + traffic.spare
    whole, left = (run(machine, batching, lengths, traffic.rate / number, count, seed=7) for number in (instances, needed))
    cost = instances * traffic.price
    per_million = cost / (3600 * traffic.rate) * 1e6
    p99 = whole.quantile_ms(0.99), left.quantile_ms(0.99)
    return Fleet(batching.timeout_ms, peak.held.rate, instances, *p99, whole.cores, whole.device, cost, per_million)


def plan(
    machine: Machine, batching: Batching, timeouts: Sequence[float], lengths: Sequence[int], traffic: Traffic, count: int, effort: Effort
) -> list[Fleet]:
    """A fleet per batch timeout, cheapest first; among equals the one with the lowest P99 when all instances run."""
    peaks = peaks_by_timeout(machine, batching, timeouts, lengths, [traffic.limit_ms], count, effort)
    fleets = [
        fleet(machine, dataclasses.replace(batching, timeout_ms=timeout), lengths, traffic, peaks[timeout][0], count)
        for timeout in timeouts
    ]
    return sorted(fleets, key=lambda found: (found.cost_per_hour, found.p99_ms, found.timeout_ms))
