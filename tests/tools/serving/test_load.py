"""The load generator against a server whose delays are known, and what is made of its outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from cvr.errors import CvrError
from tools.serving.generator import METHOD, Phase, Sent, arrivals, outcome, play
from tools.serving.payloads import Payloads
from tools.serving.phases import Outcome, generator, merged, outcome_of

MS = 1_000_000


def test_arrivals_are_a_poisson_process() -> None:
    times = arrivals(Phase(rate=2_000, seconds=20, warm_up=5, seed=3))
    assert times[0] >= -5 and times[-1] < 20 and (np.diff(times) >= 0).all()
    counts = np.histogram(times, np.arange(-5, 20.01, 0.1))[0]
    assert len(times) == pytest.approx(50_000, abs=4 * 50_000**0.5)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.3)  # of a Poisson process it is 1; 250 cells, 3 standard errors
    assert not np.array_equal(times[:9], arrivals(Phase(2_000, 20, 5, seed=4))[:9])


def test_latency_counts_from_the_intended_arrival() -> None:
    """Three requests meant for 0, 1 and 2 ms; the generator hangs and sends all at 5 ms; answers at 6, 6 and 7 ms: latencies 6, 5, 5 ms."""
    log = [Sent(0, 5 * MS, 6 * MS, "OK", 4), Sent(MS, 5 * MS, 6 * MS, "OK", 4), Sent(2 * MS, 5 * MS, 7 * MS, "OK", 4)]
    log += [Sent(-MS, -MS, 3 * MS, "OK", 10), Sent(MS, MS, 2 * MS, "UNAVAILABLE", 4), Sent(-2 * MS, -2 * MS, -MS, "OK", 99)]
    phase = Phase(rate=1000, seconds=0.0065)
    found = outcome_of({**outcome(log, phase, 0), "cpu": 0.1, "wall": 1.0}, phase)
    assert found.counts == {"OK": 3, "UNAVAILABLE": 1} and found.failed == 1 and found.requests == 4
    assert found.items_per_second == pytest.approx((4 + 4 + 10) / 0.0065)  # answered within 6.5 ms, also those asked for before
    assert found.quantile_ms(0.5) == pytest.approx(5, rel=0.002)
    assert found.quantile_ms(0.75) == pytest.approx(6, rel=0.002)
    assert found.quantile_ms(0.8) == float("inf")  # the failed one
    assert found.to_json()["latency_ms"]["p99"] is None
    assert found.lag_ms == pytest.approx(5, rel=0.002)


def _outcome(latency_us: list[int], lag_us: int, cpu: float) -> Outcome:
    latency, lag = HdrHistogram(1, 10**8, 3), HdrHistogram(1, 10**8, 3)
    for value in latency_us:
        latency.record_value(value)
        lag.record_value(lag_us)
    return Outcome(Phase(1, 1), {"OK": len(latency_us)}, 10.0, cpu, latency, lag)


@pytest.mark.parametrize(
    ("lag_us", "cpu", "kept_up"), [(4_000, 0.5, True), (9_000, 0.5, True), (11_000, 0.5, False), (100, 0.95, False)]
)
def test_a_generator_that_is_late_or_busy_is_told(lag_us: int, cpu: float, kept_up: bool) -> None:
    assert _outcome([50_000] * 100, lag_us, cpu).kept_up is kept_up


def test_phases_add_up() -> None:
    whole = merged([_outcome([1_000] * 90, 10, 0.2), _outcome([9_000] * 10, 10, 0.4)])
    assert whole.requests == 100 and whole.cpu == pytest.approx(0.3)
    assert whole.quantile_ms(0.9) == pytest.approx(1, rel=0.002) and whole.quantile_ms(0.91) == pytest.approx(9, rel=0.002)


def test_arrivals_do_not_wait_for_answers() -> None:
    """Answers after 0.3 s and 100 arrivals a second: some 30 requests are under way at a time."""
    running, most = 0, 0

    async def call(request: bytes, deadline: float) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.3)
        running -= 1

    found = asyncio.run(play(call, [b"a"], [2], Phase(rate=100, seconds=0.6, warm_up=0.2)))
    assert most > 12
    assert 30 < found["counts"]["OK"] < 95


class _Answers(grpc.GenericRpcHandler):
    """Answers Predict after 30 ms, requests of more than 9 bytes with RESOURCE_EXHAUSTED."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        def predict(request: bytes, context: grpc.ServicerContext) -> bytes:
            time.sleep(0.03)
            if len(request) > 9:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")
            return b""

        return grpc.unary_unary_rpc_method_handler(predict) if handler_call_details.method == METHOD else None


@pytest.fixture
def target() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(64), handlers=[_Answers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def test_a_generator_in_a_process_of_its_own(target: str) -> None:
    with generator(Payloads([b"short", b"longer than 9"], [3, 5]), target) as load:
        found = load.run(Phase(rate=60, seconds=1.0, warm_up=0.3, seed=1))
        again = load.run(Phase(rate=60, seconds=0.5, warm_up=0.0, seed=2))
    assert set(found.counts) == {"OK", "RESOURCE_EXHAUSTED"} and again.requests > 0
    assert found.latency.get_min_value() >= 30_000
    assert found.items_per_second % 3 == 0


def test_no_server() -> None:
    with generator(Payloads([b"x"], [1]), "127.0.0.1:1") as load, pytest.raises(CvrError, match="no server answers"):
        load.run(Phase(rate=50, seconds=0.2, warm_up=0.0))
