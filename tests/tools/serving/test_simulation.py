"""The simulation against queueing formulas and schedules worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from export.batching import Batching
from tools.serving.curves import Curve, Machine
from tools.serving.simulation import Simulated, poisson, simulate

ONE = Batching(allowed_sizes=(1,), threads=1, max_enqueued=10**9)
MS = 1e-3


def _waits(found: Simulated, service: float) -> tuple[float, float]:
    """Mean waiting time and half of its 99.9 % interval, from the means of 50 blocks, which hardly depend on each other."""
    blocks = (found.latency[len(found.latency) % 50 :] - service).reshape(50, -1).mean(axis=1)
    return float(blocks.mean()), float(3.5 * blocks.std(ddof=1) / np.sqrt(50))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waiting_time_of_one_server_with_constant_service(load: float) -> None:
    """M/D/1 (Pollaczek-Khinchine): W = load * s / (2 (1 - load))."""
    machine = Machine(batch=Curve((1,), (1.0,)))
    found = simulate(machine, ONE, poisson(load / MS, 60_000, 1), np.ones(60_000, int))
    mean, half = _waits(found, MS)
    expected = load * MS / (2 * (1 - load))
    assert half < 0.2 * expected
    assert abs(mean - expected) <= half
    assert found.cores == pytest.approx(load, rel=0.03)


def test_waiting_time_of_one_server_with_exponential_service() -> None:
    """M/M/1: W = load * s / (1 - load), and P(latency > t) = exp(-(1 - load) t / s)."""
    load, count = 0.6, 60_000
    shares = (np.arange(20_000) + 0.5) / 20_000
    spread = -np.log(shares)
    machine = Machine(batch=Curve((1,), (1.0,), tuple((spread / spread.mean()).tolist())))
    found = simulate(machine, ONE, poisson(load / MS, count, 2), np.ones(count, int))
    mean, half = _waits(found, MS)
    assert abs(mean - load * MS / (1 - load)) <= half
    assert found.quantile_ms(0.99) == pytest.approx(np.log(100) / (1 - load), rel=0.08)


def test_two_threads_on_two_cores_are_a_queue_with_two_servers() -> None:
    """M/M/2 (Erlang C): W = C s / (2 - a) with a = arrivals * s, C = a^2 / (2 + a); a = 1.2: C = 0.45, W = 0.5625 s."""
    a, count = 1.2, 60_000
    spread = -np.log((np.arange(20_000) + 0.5) / 20_000)
    machine = Machine(batch=Curve((1,), (1.0,), tuple((spread / spread.mean()).tolist())), cpus=2)
    two = Batching(allowed_sizes=(1,), threads=2, max_enqueued=10**9)
    found = simulate(machine, two, poisson(a / MS, count, 3), np.ones(count, int))
    mean, half = _waits(found, MS)
    assert a**2 / (2 + a) == pytest.approx(0.45)
    assert abs(mean - 0.5625 * MS) <= half


def test_three_requests_by_hand() -> None:
    """Timeout 10 ms, sizes 4 and 8; 4 rows take 2 ms, 8 rows 3 ms; one thread.

    A (3 rows) opens a batch at 0. B (2 rows) joins at 4: 5 rows, padded to 8, begin at 10 and end at 13. C (6 rows) at 11 opens the next,
    which may begin at 21 and ends at 24.
    """
    machine = Machine(batch=Curve((4, 8), (2.0, 3.0)))
    batching = Batching(allowed_sizes=(4, 8), timeout_ms=10.0, threads=1)
    found = simulate(machine, batching, np.array([0.0, 4 * MS, 11 * MS]), np.array([3, 2, 6]))
    np.testing.assert_allclose(found.latency, [13 * MS, 9 * MS, 13 * MS], atol=1e-12)
    assert found.batches.tolist() == [5, 6]


def test_a_full_batch_goes_at_once_and_a_large_request_is_split() -> None:
    """A (5 rows of at most 8) waits at 0. B (14 rows) fills it at 1 (begins, ends at 4) and the next one (8 rows: 4 to 7); its last 3 rows
    open a batch at 1 that may begin at 11 and ends at 13."""
    machine = Machine(batch=Curve((4, 8), (2.0, 3.0)))
    batching = Batching(allowed_sizes=(4, 8), timeout_ms=10.0, threads=1)
    found = simulate(machine, batching, np.array([0.0, 1 * MS]), np.array([5, 14]))
    np.testing.assert_allclose(found.latency, [4 * MS, 12 * MS], atol=1e-12)
    assert found.batches.tolist() == [8, 8, 3]


def test_rows_that_arrive_while_the_thread_is_busy_are_merged_without_a_timeout() -> None:
    """A computes from 0 to 2; B and C, at 0.5 and 1, run together from 2 to 5 as 6 rows padded to 8."""
    machine = Machine(batch=Curve((4, 8), (2.0, 3.0)))
    batching = Batching(allowed_sizes=(4, 8), threads=1)
    found = simulate(machine, batching, np.array([0.0, 0.5 * MS, 1 * MS]), np.array([3, 3, 3]))
    np.testing.assert_allclose(found.latency, [2 * MS, 4.5 * MS, 4 * MS], atol=1e-12)


def test_batches_on_the_same_core_share_it() -> None:
    """Two batches of 2 ms at the same time on one core end at 4; on two cores at 2."""
    two = Batching(allowed_sizes=(4,), threads=2)
    arrivals, items = np.array([0.0, 0.0]), np.array([4, 4])
    for machine, expected in ((Machine(Curve((4,), (2.0,))), 4.0), (Machine(Curve((4,), (2.0,)), cpus=2), 2.0)):
        np.testing.assert_allclose(simulate(machine, two, arrivals, items).latency, expected * MS, atol=1e-12)


def test_handlers_workers_and_the_lock() -> None:
    """Serial work of 1 ms, one at a time; handling of 2 ms beside it on two cores; batches of no time.

    A: 1 + 2 = 3. B waits 1 for the lock: 2 + 2 = 4. With one worker B begins when A has left: 3 + 3 = 6.
    """
    curves = {"serial": Curve((1,), (1.0,)), "handler": Curve((1,), (2.0,))}
    arrivals, items = np.array([0.0, 0.0]), np.array([1, 1])
    machine = Machine(batch=Curve((1,), (0.0,)), cpus=2, **curves)
    np.testing.assert_allclose(simulate(machine, ONE, arrivals, items).latency, [3 * MS, 4 * MS], atol=1e-12)
    machine = Machine(batch=Curve((1,), (0.0,)), cpus=2, workers=1, **curves)
    np.testing.assert_allclose(simulate(machine, ONE, arrivals, items).latency, [3 * MS, 6 * MS], atol=1e-12)


def test_nobody_waits_longer_than_timeout_and_service_when_the_server_is_idle() -> None:
    machine = Machine(batch=Curve((8, 64), (1.0, 2.0)), cpus=1, device=True)
    batching = Batching(allowed_sizes=(8, 64), timeout_ms=5.0, threads=1)
    items = np.random.default_rng(0).integers(1, 60, 500)
    found = simulate(machine, batching, np.arange(500) * 20 * MS, items)
    expected = 5 * MS + np.where(items <= 8, 1 * MS, 2 * MS)
    np.testing.assert_allclose(found.latency, expected, atol=1e-12)
    assert found.refused == 0


def test_a_full_queue_refuses() -> None:
    """One thread, at most 2 waiting batches of one row each: the fourth of four at once is refused."""
    machine = Machine(batch=Curve((1,), (1.0,)))
    batching = Batching(allowed_sizes=(1,), threads=1, max_enqueued=2)
    found = simulate(machine, batching, np.zeros(4), np.ones(4, int))
    np.testing.assert_allclose(found.latency[:3], [1 * MS, 2 * MS, 3 * MS], atol=1e-12)
    assert np.isnan(found.latency[3]) and found.refused == 1 and found.quantile_ms(0.99) == float("inf")


def test_all_rows_are_computed_once() -> None:
    items = np.random.default_rng(5).integers(1, 300, 2_000)
    machine = Machine(batch=Curve((32, 512), (1.0, 4.0)), handler=Curve((1, 100), (0.1, 0.3)), cpus=2)
    found = simulate(machine, Batching(timeout_ms=3.0), poisson(300.0, 2_000, 4), items)
    assert found.batches.sum() == items.sum() and found.batches.max() <= 512 and not np.isnan(found.latency).any()
