"""The search for a peak on servers whose latency is a formula."""

from __future__ import annotations

import pytest

from tools.serving.peak import Effort, Peak, Probe, next_rate, peak_of, search
from tools.serving.sweep import table6_head, table6_row


def _mm1(capacity: float, calls: list[tuple[float, float]], name: float = 0.0):  # noqa: ANN202
    """P99 of an M/M/1 queue: ln(100) / (capacity - rate) seconds; 10 items a request."""

    def play(rate: float, seed: int) -> Probe:
        calls.append((name, rate))
        p99 = 4605.17 / (capacity - rate) if rate < capacity else float("inf")
        return Probe(rate, p99, 10 * min(rate, capacity))

    return play


def test_peaks_within_the_tolerance_for_all_limits() -> None:
    """P99 <= L at rates up to capacity - 4605.17 / L."""
    calls: list[tuple[float, float]] = []
    peaks = search({1: _mm1(1000, calls)}, [50.0, 75.0], Effort(first=30, repeats=1, tolerance=1.02))[1]
    for peak, limit in zip(peaks, (50.0, 75.0), strict=True):
        best = 1000 - 4605.17 / limit
        assert best / 1.02 <= peak.items_per_second / 10 <= best
        assert peak.held is not None and peak.broke is not None and peak.held.rate <= best < peak.broke.rate
    assert len(calls) < 20


def test_a_first_rate_that_is_too_high_is_halved_and_a_hopeless_server_given_up() -> None:
    calls: list[tuple[float, float]] = []
    effort = Effort(first=800, repeats=1, tolerance=1.1)
    peaks = search({"slow": _mm1(100, calls), "never": lambda rate, seed: Probe(rate, 99.0, 1.0)}, [60.0], effort)
    assert 23.2 / 1.1 <= peaks["slow"][0].items_per_second / 10 <= 23.3
    assert peaks["never"][0].held is None and peaks["never"][0].items_per_second == 0


def test_servers_take_turns_and_repeats_have_other_arrivals() -> None:
    order: list[tuple[str, int]] = []

    def of(name: str):  # noqa: ANN202
        def play(rate: float, seed: int) -> Probe:
            order.append((name, seed))
            return Probe(rate, 10.0 if rate < 15 else 99.0, rate)

        return play

    search({"a": of("a"), "b": of("b")}, [50.0], Effort(first=10, repeats=2, tolerance=2.5))
    assert order == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3), ("a", 4), ("b", 4)]


def test_a_rate_above_one_that_broke_does_not_count() -> None:
    probes = {rate: Probe(rate, p99, rate) for rate, p99 in ((10.0, 5.0), (20.0, 90.0), (40.0, 6.0))}
    peak = peak_of(probes, 50.0)
    assert peak.held == probes[10.0] and peak.broke == probes[20.0]
    assert next_rate(probes, 50.0, 1.0, 1.05) == pytest.approx(200**0.5)


def test_the_median_of_the_repeats_decides() -> None:
    values = iter([10.0, 99.0, 12.0, 99.0, 98.0, 13.0])
    (peak,) = search({0: lambda rate, seed: Probe(rate, next(values), rate)}, [50.0], Effort(10, 3, 2.5))[0]
    assert peak.held is not None and peak.held.p99_ms == 12.0 and peak.broke is not None and peak.broke.p99_ms == 98.0


def test_table6_by_hand() -> None:
    held, late = Probe(10, 40, 1234.4), Probe(11, 60, 1200, kept_up=False)
    peaks = [Peak(50.0, held, late), Peak(80.0, held, None)]
    assert table6_row(5.0, peaks) == ["5", "1,234*", "1,234", "14,000"]
    assert table6_row(2.5, peaks) == ["2.5", "1,234*", "1,234", ""]
    assert len(table6_head([50.0, 80.0])) == 4
