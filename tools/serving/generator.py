"""The load generator's process: open-loop Poisson arrivals of ready requests over gRPC.

    python -m tools.serving.generator PAYLOADS host:port      then one JSON phase a line on standard input, one JSON outcome a line back

A thread sleeps until each intended arrival, whatever became of the requests before it, and hands the request to an event loop, which sends
raw bytes and parses no answer. Latency runs from the *intended* arrival to the answer: a late generator and a stalled server both show. How
late requests were sent (`lag`) and how much of a core this process used tell whether the generator kept up.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import dataclasses
import gc
import json
import pickle
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from hdrh.histogram import HdrHistogram

METHOD = "/tensorflow.serving.PredictionService/Predict"
MOST_US = 120_000_000
DIGITS = 3
_OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
Call = Callable[[bytes, float], Awaitable[object]]


@dataclasses.dataclass(frozen=True)
class Phase:
    """`rate` requests a second for `seconds`, after `warm_up` seconds of the same load that do not count; `deadline` is each call's."""

    rate: float
    seconds: float
    warm_up: float = 1.0
    seed: int = 0
    deadline: float = 5.0


@dataclasses.dataclass(frozen=True)
class Saturation:
    """Closed loop: `callers` send one request after the other, each when its last was answered. For throughput; says nothing of latency."""

    callers: int
    seconds: float
    warm_up: float = 1.0
    seed: int = 0
    deadline: float = 30.0


@dataclasses.dataclass
class Sent:
    """One request: its intended arrival, sending and answer (ns), whether it counts, its status and its items."""

    intended: int
    sent: int
    answered: int
    code: str
    items: int


def arrivals(phase: Phase) -> np.ndarray:
    """Intended arrivals in seconds, rising, from -warm_up up to `seconds`: a Poisson process, the gaps exponential with mean 1 / rate."""
    source = np.random.default_rng(phase.seed)
    length = phase.warm_up + phase.seconds
    times = np.empty(0)
    while not len(times) or times[-1] < length:
        gaps = source.exponential(1 / phase.rate, max(16, int(1.1 * phase.rate * length)))
        times = np.concatenate([times, (times[-1] if len(times) else 0.0) + np.cumsum(gaps)])
    return times[times < length] - phase.warm_up


async def one_call(log: list[Sent], call: Call, request: bytes, items: int, at: int, deadline: float) -> None:
    """Sends a request that was meant for `at` (ns) now, and logs what became of it."""
    sent, code = time.perf_counter_ns(), "OK"
    try:
        await call(request, deadline)
    except grpc.RpcError as error:
        code = error.code().name
    log.append(Sent(at, sent, time.perf_counter_ns(), code, items))


async def saturate(call: Call, payloads: Sequence[bytes], items: Sequence[int], plan: Saturation) -> dict[str, Any]:
    """Plays a closed loop."""
    log, used, began = list[Sent](), _cpu_seconds(), time.perf_counter_ns()
    origin = began + int(plan.warm_up * 1e9)
    end = origin + int(plan.seconds * 1e9)

    async def caller(number: int) -> None:
        source = np.random.default_rng([plan.seed, number])
        while (now := time.perf_counter_ns()) < end:
            which = int(source.integers(len(payloads)))
            await one_call(log, call, payloads[which], items[which], now, plan.deadline)

    await asyncio.gather(*(caller(number) for number in range(plan.callers)))
    wall = (time.perf_counter_ns() - began) / 1e9
    return outcome(log, plan, origin) | {"cpu": _cpu_seconds() - used, "wall": wall}


async def play(call: Call, payloads: Sequence[bytes], items: Sequence[int], phase: Phase) -> dict[str, Any]:
    """Plays a phase and waits for its last answer."""
    loop, log = asyncio.get_running_loop(), list[Sent]()
    times = arrivals(phase)
    chosen = np.random.default_rng(phase.seed + 1_000_003).integers(0, len(payloads), len(times)).tolist()
    origin = time.perf_counter_ns() + int((phase.warm_up + 0.02) * 1e9)
    intended = (origin + times * 1e9).astype(np.int64).tolist()
    running, over = set[asyncio.Task[None]](), asyncio.Event()

    def send(at: int, which: int) -> None:
        task = loop.create_task(one_call(log, call, payloads[which], items[which], at, phase.deadline))
        running.add(task)
        task.add_done_callback(running.discard)

    def pace() -> None:
        for at, which in zip(intended, chosen, strict=True):
            wait = at - time.perf_counter_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            loop.call_soon_threadsafe(send, at, which)
        loop.call_soon_threadsafe(over.set)

    used = _cpu_seconds()
    threading.Thread(target=pace, daemon=True).start()
    await over.wait()
    while running:
        await asyncio.wait(set(running))
    passed = (time.perf_counter_ns() - origin) / 1e9 + phase.warm_up
    return outcome(log, phase, origin) | {"cpu": _cpu_seconds() - used, "wall": passed}


def outcome(log: Sequence[Sent], phase: Phase | Saturation, origin: int) -> dict[str, Any]:
    """What a phase's log says of the requests that were meant to arrive at or after `origin` (ns).

    `items`: items of all good answers that came within the phase's seconds, whenever they were asked for. `latency`: of good answers, from
    the intended arrival; `lag`: sending after the intended arrival; both HdrHistograms of microseconds, encoded.
    """
    counted = [entry for entry in log if entry.intended >= origin]
    latency, lag = (HdrHistogram(1, MOST_US, DIGITS) for _ in range(2))
    for entry in counted:
        lag.record_value(max(1, (entry.sent - entry.intended) // 1000))
        if entry.code == "OK":
            latency.record_value(min(MOST_US, max(1, (entry.answered - entry.intended) // 1000)))
    end = origin + phase.seconds * 1e9
    items = sum(entry.items for entry in log if entry.code == "OK" and origin <= entry.answered < end)
    return {
        "counts": dict(collections.Counter(entry.code for entry in counted)),
        "items": items,
        "latency": base64.b64encode(latency.encode()).decode(),
        "lag": base64.b64encode(lag.encode()).decode(),
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def serve_phases(payload_file: str, target: str) -> None:
    """Plays the phases that standard input names until it ends."""
    payloads, items = pickle.loads(Path(payload_file).read_bytes())
    loop = asyncio.get_running_loop()
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        method = channel.unary_unary(METHOD)

        async def call(request: bytes, deadline: float) -> object:
            return await method(request, timeout=deadline, wait_for_ready=False)

        while line := await loop.run_in_executor(None, sys.stdin.readline):
            gc.collect()
            gc.disable()
            asked = json.loads(line)
            if "callers" in asked:
                found = await saturate(call, payloads, items, Saturation(**asked))
            else:
                found = await play(call, payloads, items, Phase(**asked))
            gc.enable()
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(serve_phases(*sys.argv[1:]))
