"""The steps that `tools.benchmarks.embedding` times: an embedding table of some size, looked up and updated by one optimizer.

A step gathers `ids` rows, takes the gradient of the mean of their squares, and updates the table. `lookup` does all but the update. Each
cell (optimizer, rows, draw) has a turn of a few steps, and all have one turn before any has two; the first steps of a turn are not timed,
since the caches still hold another cell's rows then.
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cvr.optimizers import OptimizerConfig, make_optimizer
from cvr.schedules import WarmupCosine
from tools.benchmarks.summary import Spread

Step = Callable[[tf.Tensor], tf.Tensor]
OURS = ("lazy_adam", "rowwise_adagrad")
OPTIMIZERS = ("lookup", *OURS, "keras_adagrad", "keras_adam")
DRAWS = ("uniform", "zipf")
ZIPF = 1.2
_SPREAD = 2_654_435_761
_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Plan:
    """Ids of a step, their width, and the turns: `repeats` turns of `steps` timed steps after `warm` others."""

    ids: int = 20_000
    dim: int = 16
    repeats: int = 7
    steps: int = 5
    warm: int = 3
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of a step, the median of each turn; pages that a step touched for the first time (page faults, median of the turns)."""

    optimizer: str
    rows: int
    draw: str
    step_ms: Spread
    faults: float


def draw_ids(source: np.random.Generator, draw: str, rows: int, count: int) -> np.ndarray:
    """Ids of a step below `rows`, int64: all equally likely, or the r-th in proportion to r^-1.2, scattered over the table."""
    if draw == "uniform":
        return source.integers(0, rows, count)
    return (source.zipf(ZIPF, count) % rows * _SPREAD) % rows


def _ours(name: str, table: tf.Variable) -> Callable[[tf.IndexedSlices], None]:
    schedule = WarmupCosine(_RATE, 0, 10**9)
    optimizer = make_optimizer(lambda: [table], list, schedule, schedule, OptimizerConfig(name))
    return lambda gradient: optimizer.apply_gradients([(gradient, table)])


def _keras(name: str, table: tf.Variable) -> Callable[[tf.IndexedSlices], None]:
    kind = {"keras_adam": tf.keras.optimizers.Adam, "keras_adagrad": tf.keras.optimizers.Adagrad}[name]
    optimizer = kind(_RATE, jit_compile=False)
    optimizer.build([table])
    return lambda gradient: optimizer.apply_gradients([(gradient, table)])


def make_step(name: str, table: tf.Variable) -> Step:
    """ids `[M]` -> a number, after an update of the table by an optimizer of the step's own."""
    update = None if name == "lookup" else (_ours if name in OURS else _keras)(name, table)

    @tf.function(autograph=False)
    def step(ids: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.gather(table, ids)))
        gradient = tape.gradient(loss, table)
        if update is None:
            return loss + tf.reduce_sum(gradient.values)
        update(gradient)
        return loss

    return step


def _turn(step: Step, batches: Sequence[tf.Tensor], warm: int) -> tuple[float, float]:
    """(median milliseconds, page faults) of a step."""
    times: list[float] = []
    for place, ids in enumerate(batches):
        if place == warm:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        started = time.perf_counter()
        step(ids).numpy()
        if place >= warm:
            times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times), (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / len(times)


def measure(optimizers: Sequence[str], sizes: Sequence[int], draws: Sequence[str], plan: Plan, say: Callable[[str], None]) -> list[Timing]:
    """Times all cells; `say` gets a line per repeat. Optimizers share the table of a size, so that memory is for one."""
    source = np.random.default_rng(plan.seed)
    steps: dict[tuple[str, int], Step] = {}
    for rows in sizes:
        table = tf.Variable(tf.random.stateless_uniform([rows, plan.dim], [plan.seed, 0], -0.05, 0.05), name="table")
        steps |= {(name, rows): make_step(name, table) for name in optimizers}
    cells = [(name, rows, draw) for rows in sizes for draw in draws for name in optimizers]
    turns: dict[tuple[str, int, str], list[tuple[float, float]]] = {cell: [] for cell in cells}
    for repeat in range(plan.repeats):
        shift = repeat * len(optimizers) % len(cells)
        for name, rows, draw in cells[shift:] + cells[:shift]:
            drawn = [tf.constant(draw_ids(source, draw, rows, plan.ids)) for _ in range(plan.warm + plan.steps)]
            turns[name, rows, draw].append(_turn(steps[name, rows], drawn, plan.warm))
        say(f"repeat {repeat + 1} of {plan.repeats}")
    return [
        Timing(*cell, Spread.of([ms for ms, _ in found]), statistics.median(faults for _, faults in found)) for cell, found in turns.items()
    ]
