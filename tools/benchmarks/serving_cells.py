"""What `tools.benchmarks.serving` times: a served model in closed loop, the same model in this process, and parts of its ranker.

All cells of a group have one turn before any has two, and each round begins with another one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr.data import Batch
from cvr.ranker import Ranker
from export.example import example_search
from export.request import to_arrays
from export.servable import DEFAULT_SIGNATURE, Servable
from export.signatures import CONTEXT, ITEMS
from tools.benchmarks.reference_batch import reference_batch
from tools.benchmarks.summary import Spread
from tools.serving.generator import Saturation
from tools.serving.local_server import LocalServer, local_server
from tools.serving.payloads import export_spec, raw_payloads
from tools.serving.phases import Generator, generator

DIFFERENT = 20
"""Different requests of a cell."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Rounds, seconds of a turn, callers at a time, and threads of TensorFlow's pools, here and in servers."""

    rounds: int = 5
    seconds: float = 3.0
    callers: int = 4
    threads: int = 1


@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure: items a second, or CPU milliseconds; median, least and greatest of the rounds."""

    group: str
    name: str
    unit: str
    value: Spread


Turn = Callable[[], Mapping[str, float]]
"""Takes one turn and gives figures by unit."""


def rounds(group: str, turns: Mapping[str, Turn], count: int, say: Callable[[str], None]) -> list[Cell]:
    """All turns, `count` times."""
    names, found = list(turns), dict[tuple[str, str], list[float]]()
    for number in range(count):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            for unit, value in turns[name]().items():
                found.setdefault((name, unit), []).append(value)
    cells = [Cell(group, name, unit, Spread.of(values)) for (name, unit), values in found.items()]
    for cell in cells:
        say(f"{group}, {cell.name}: {cell.value.median:,.2f} {cell.unit}")
    return cells


@contextlib.contextmanager
def served_turns(version: Path, sizes: Sequence[int], plan: Plan, work: Path) -> Iterator[dict[int, Turn]]:
    """Turns by the number of candidates of a request, against one server: items/s, and CPU ms per request of server and client."""
    spec = export_spec(version)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(local_server(version, work / "serve.log", plan.threads))
        loads = {n: stack.enter_context(generator(raw_payloads(spec, [n] * DIFFERENT), server.target)) for n in sizes}
        yield {n: _served_turn(server, load, plan) for n, load in loads.items()}


def _served_turn(server: LocalServer, load: Generator, plan: Plan) -> Turn:
    def turn() -> Mapping[str, float]:
        before = server.cpu_seconds()
        found = load.run(Saturation(plan.callers, plan.seconds, warm_up=0.3))
        spent = server.cpu_seconds() - before
        if found.failed:
            raise AssertionError(f"requests of the benchmark failed: {dict(found.counts)}")
        requests = max(1.0, found.requests * (plan.seconds + 0.3) / plan.seconds)
        client = found.cpu * (plan.seconds + 0.3) / requests
        return {"items/s": found.items_per_second, "server CPU ms": 1000 * spent / requests, "client CPU ms": 1000 * client}

    return turn


def in_process_turn(servable: Servable, items: int, plan: Plan, call: Callable[[Mapping[str, np.ndarray]], object] | None = None) -> Turn:
    """`callers` threads of this process, each with one request of `items` candidates after the other: items/s, CPU ms per request."""
    infos, spec = servable.inputs(DEFAULT_SIGNATURE), export_spec(servable.folder)
    arrays = [to_arrays(example_search(spec, items, seed, gaps=0.05), infos) for seed in range(DIFFERENT)]
    asked = call or (lambda inputs: servable.run(DEFAULT_SIGNATURE, inputs))

    def turn() -> Mapping[str, float]:
        for inputs in arrays[:3]:
            asked(inputs)  # the first call of a signature plans its graph
        done, began, spent = [0] * plan.callers, time.perf_counter(), time.process_time()
        end = began + plan.seconds

        def caller(number: int) -> None:
            while time.perf_counter() < end:
                asked(arrays[(number + done[number]) % DIFFERENT])
                done[number] += 1

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(plan.callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed, requests = time.perf_counter() - began, sum(done)
        return {"items/s": items * requests / passed, "CPU ms": 1000 * (time.process_time() - spent) / requests}

    return turn


def split_call(servable: Servable) -> Callable[[Mapping[str, np.ndarray]], object]:
    """`preprocess`, then `score`, as a client that runs them on different machines."""
    return lambda inputs: servable.run("score", servable.run("preprocess", inputs))


def score_turn(servable: Servable, rows: int, seconds: float) -> Turn:
    """The backbone alone, one caller, batches of so many rows."""
    infos, source = servable.inputs("score"), np.random.default_rng(0)
    fed = {name: source.normal(size=(rows, infos[name].shape[1] or 1)).astype(np.float32) for name in (CONTEXT, ITEMS)}

    def turn() -> Mapping[str, float]:
        calls = _calls_within(lambda: servable.run("score", fed), seconds)
        return {"items/s": rows * calls, "ms a batch": 1000 / calls}

    return turn


def context_turn(ranker: Ranker, spec: Any, lists: int, length: int, seconds: float) -> Turn:
    """Scores of lists * length items in one call, whose context is encoded once per list."""
    batch: Batch = {
        name: value for name, value in reference_batch(spec, lists, length=length).items() if value.dtype != tf.string
    }

    @tf.function(autograph=False)
    def score() -> tf.Tensor:
        context, items = ranker.extract(batch)
        return ranker.score(tf.gather(ranker.project_context(context), batch["list_index"]), items)

    return lambda: {"items/s": lists * length * _calls_within(lambda: score().numpy(), seconds)}


def _calls_within(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, after two that do not count."""
    for _ in range(2):
        call()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - began)
