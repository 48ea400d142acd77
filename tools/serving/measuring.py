"""Service times of a model on this machine, for the simulation: CPU time, which other processes on the machine hardly change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cvr.schema import FeatureSpec
from export.batching import Batching
from export.example import example_search
from export.request import to_arrays
from export.servable import DEFAULT_SIGNATURE, Servable
from export.signatures import CONTEXT, ITEMS
from tools.serving.batch_queue import padded
from tools.serving.curves import Curve, Machine, curve_of
from tools.serving.generator import Phase
from tools.serving.local_server import LocalServer, local_server
from tools.serving.payloads import export_spec, raw_payloads
from tools.serving.phases import generator

SECONDS = 4.0
RATE = 40.0
_ROWS = (1, 8, 32, 64, 128, 256, 512)
_LEAST_SECONDS, _LEAST_CALLS = 0.25, 10


def measure(version: Path, batching: Batching, lengths: Sequence[int], threads: int, workers: int, work: Path) -> Machine:
    """Times the backbone, the preprocessing, and what else the server and the load generator spend on a request.

    `handler` is the CPU time of the signature `preprocess`; `serial` is what the server spends on a request beyond it and the batch: gRPC
    and Python, most of it under Python's lock. Both at the 5, 50 and 95 % quantiles of the requests' lengths.
    """
    servable, spec = Servable(version, threads, threads), export_spec(version)
    sizes = sorted({max(1, round(value)) for value in np.percentile(lengths, [5, 50, 95])})
    batch = batch_curve(servable, sorted({*_ROWS, *batching.allowed_sizes}))
    handler = curve_of({size: handler_samples(servable, spec, size) for size in sizes})
    with local_server(version, work / "serve.log", threads) as server:
        spent = {size: request_cost(server, spec, size) for size in sizes}
    serial = [max(0.0, 1000 * (spent[n][0] - handler.seconds(n) - _share(batch, batching, n))) for n in sizes]
    client = [1000 * spent[n][1] for n in sizes]
    places = tuple(map(float, sizes))
    cpus = len(os.sched_getaffinity(0))
    return Machine(batch, handler, Curve(places, tuple(serial)), Curve(places, tuple(client)), cpus=cpus, workers=workers)


def _share(batch: Curve, batching: Batching, items: int) -> float:
    """Seconds of the batches of one request that is merged with none."""
    most = batching.allowed_sizes[-1]
    pieces = [most] * (items // most) + ([items % most] if items % most else [])
    return sum(batch.seconds(padded(piece, batching.allowed_sizes)) for piece in pieces)


def timed(call: Callable[[], object]) -> list[float]:
    """CPU seconds of this process per call, after three that do not count."""
    for _ in range(3):
        call()
    found, total = list[float](), 0.0
    while total < _LEAST_SECONDS or len(found) < _LEAST_CALLS:
        before = time.process_time()
        call()
        found.append(time.process_time() - before)
        total += found[-1]
    return found


def batch_curve(servable: Servable, sizes: Sequence[int]) -> Curve:
    """Times the signature `score` by rows; each size has its turn before any has another."""
    infos, source = servable.inputs("score"), np.random.default_rng(0)
    widths = {name: infos[name].shape[1] or 1 for name in (CONTEXT, ITEMS)}
    samples: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(3):
        for size in sizes:
            fed = {name: source.normal(size=(size, width)).astype(np.float32) for name, width in widths.items()}
            samples[size] += timed(lambda fed=fed: servable.run("score", fed))  # type: ignore[misc]
    return curve_of(samples)


def handler_samples(servable: Servable, spec: FeatureSpec, items: int) -> list[float]:
    """CPU seconds of the signature `preprocess` on made-up requests of so many items."""
    infos = servable.inputs(DEFAULT_SIGNATURE)
    arrays = to_arrays(example_search(spec, items, gaps=0.05), infos)
    return timed(lambda: servable.run("preprocess", arrays))


def request_cost(server: LocalServer, spec: FeatureSpec, items: int) -> tuple[float, float]:
    """CPU seconds of the server and of the generator per request, at a load so low that hardly two requests meet.

    What an idle server spends is taken off.
    """
    with generator(raw_payloads(spec, [items] * 20), server.target) as load:
        load.run(Phase(RATE, 1.0, 0.0))
        before = server.cpu_seconds()
        time.sleep(1.0)
        idle = server.cpu_seconds() - before
        before = server.cpu_seconds()
        began = time.monotonic()
        found = load.run(Phase(RATE, SECONDS, 0.0, seed=1))
        passed = time.monotonic() - began
        spent = server.cpu_seconds() - before - idle * passed
    return max(0.0, spent) / found.requests, found.cpu * passed / found.requests
