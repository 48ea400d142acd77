"""The steps that `tools.benchmarks.train` times for one ranker, each on the same batch of reference content and with the same weights:

    full        the whole training step: look-ups, extraction, projection, backbone, head, losses, gradients, all optimizers
    dense       from the extraction's output on: projection, backbone, head, losses, gradients (also of that output), Adam
    gradients   `dense` without Adam

`full - dense` is look-ups, extraction and the tables' optimizer; `dense - gradients` is Adam of the dense weights. Products are those of
the graph of `full`.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from cvr import backbones
from cvr.data import Batch, dummy_batch
from cvr.flops import cost_of
from cvr.guard import LossGuard
from cvr.losses import Loss, listwise_losses
from cvr.optimizers import RankerOptimizer, make_optimizer
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.schedules import WarmupCosine
from cvr.step import TrainingStep
from tools.benchmarks.reference_batch import LENGTH, reference_batch, reference_spec
from tools.benchmarks.summary import Spread
from tools.benchmarks.train_products import Replay, flops_of, products_of

STEPS = ("full", "dense", "gradients")
HEAD_WIDTH = 4096
"""The paper's first layer of the head (tools/table1_flops.py), shared by the experts."""
Step = Callable[[], Any]


class Turns(Protocol):
    """How long a turn lasts: up to `steps` steps, fewer where they would take more than `seconds`."""

    @property
    def steps(self) -> int:
        """Most steps."""

    @property
    def seconds(self) -> float:
        """About how long."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Size of the batch and of the head, and the turns: `repeats` turns of up to `steps` steps that end after about `seconds`."""

    lists: int = 32
    rows: int = 1_000_000
    dim: int = 16
    experts: int = 4
    expert_width: int = HEAD_WIDTH // 4
    repeats: int = 5
    steps: int = 5
    seconds: float = 2.0


@dataclasses.dataclass(frozen=True)
class Cell:
    """A ranker: backbone, its size as shown, its factors, and what it computes in."""

    backbone: str
    size: str
    factors: dict[str, Any]
    precision: str

    @property
    def name(self) -> str:
        """For a line of progress."""
        return f"{self.backbone} {self.size} {self.precision}"


@dataclasses.dataclass(frozen=True)
class Timing:
    """What was found of a cell: milliseconds of each step and of its products alone (one value per turn), FLOPs by two counts.

    `flops` is 3 times what `cvr.flops` counts forward, `product_flops` what the graph multiplies. `faults`: pages that a step of `full`
    touched for the first time. `slowest`: products that take most of a step, as (product, how often, ms, GFLOP/s).
    """

    backbone: str
    size: str
    precision: str
    items: int
    flops: int
    product_flops: int
    parameters: int
    ms: dict[str, list[float]]
    faults: float
    slowest: list[tuple[str, int, float, float]]

    def spread(self, name: str) -> Spread:
        """Of the milliseconds of a step, or of its `products`."""
        return Spread.of(self.ms[name])

    def share(self, above: str, below: str) -> Spread:
        """Of the ratios of two times, turn by turn."""
        return Spread.of([one / other for one, other in zip(self.ms[above], self.ms[below], strict=True)])

    @property
    def around(self) -> Spread:
        """Share of look-ups, extraction and both optimizers: 1 - gradients / full, turn by turn."""
        return Spread.of([1.0 - one / other for one, other in zip(self.ms["gradients"], self.ms["full"], strict=True)])


class Programs:
    """A built ranker and its steps, compiled."""

    def __init__(self, cell: Cell, plan: Plan) -> None:
        spec = reference_spec(plan.rows, plan.dim)
        factors = vars(backbones.make_config(cell.backbone, cell.factors))
        config = RankerConfig(cell.backbone, factors, plan.experts, plan.expert_width, precision=cell.precision)
        raw = reference_batch(spec, plan.lists)
        self.batch = {name: value for name, value in raw.items() if value.dtype != tf.string}
        self.ranker = build_ranker(spec, config, dummy_batch(spec))
        self.optimizer = _optimizer(self.ranker)
        graphs = {
            "full": (_whole(self.ranker, self.optimizer), (self.batch,)),
            "dense": (_dense(self.ranker, self.optimizer), self._extracted()),
            "gradients": (_dense(self.ranker, None), self._extracted()),
        }
        traced = {name: tf.function(step, autograph=False).get_concrete_function(*given) for name, (step, given) in graphs.items()}
        self.replay = Replay(products_of(traced["full"].graph))
        self.steps: dict[str, Step] = {name: functools.partial(traced[name], *given) for name, (_, given) in graphs.items()}

    def _extracted(self) -> tuple[tf.Tensor, tf.Tensor, Batch]:
        context, items = self.ranker.extract(self.batch)
        needed = ("list_index", "list_size", "item_offset", "item_mask", "labels")
        return context, items, {name: self.batch[name] for name in needed}


def _optimizer(ranker: Ranker) -> RankerOptimizer:
    schedule = WarmupCosine(1e-4, 100, 100_000)
    return make_optimizer(lambda: ranker.extraction.table_variables, lambda: ranker.dense_variables, schedule, schedule)


def _whole(ranker: Ranker, optimizer: RankerOptimizer) -> Callable[[Batch], tf.Tensor]:
    return TrainingStep(ranker, optimizer, LossGuard(len(ranker.task_names)), LENGTH, Loss()).__call__


def _dense(ranker: Ranker, optimizer: RankerOptimizer | None) -> Callable[..., Any]:
    """The step from the extraction's output on; without an optimizer its result are the gradients."""
    variables = [variable for part in (ranker.projection, ranker.backbone, ranker.head) for variable in part.trainable_variables]

    def step(context: tf.Tensor, items: tf.Tensor, batch: Batch) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((context, items))
            projected = tf.gather(ranker.project_context(context), batch["list_index"])
            logits = tf.cast(ranker.head(ranker.hidden(projected, items, training=True)), tf.float32)
            total = tf.reduce_sum(listwise_losses(logits, batch, LENGTH, Loss())) + sum(ranker.losses)
        *extracted, gradients = tape.gradient(total, [context, items, variables])
        if optimizer is None:
            return total, extracted, gradients
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return total, extracted

    return step


def _once(step: Step) -> float:
    """Seconds of one step; TensorFlow returns when it is done."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def turn(step: Step, plan: Turns) -> tuple[float, float]:
    """(milliseconds, page faults) of a step: the mean of the turn's steps after one that is not timed."""
    last = _once(step)
    count = max(1, min(plan.steps, int(plan.seconds / last)))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    taken = sum(_once(step) for _ in range(count))
    return taken / count * 1e3, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / count


def measure(cells: Sequence[Cell], plan: Plan, say: Callable[[str], None]) -> list[Timing]:
    """Times the steps and products of some cells in turns: all once, then all again, so the cells share whatever the machine does."""
    built = {cell.name: (cell, Programs(cell, plan)) for cell in cells}
    ms: dict[str, dict[str, list[float]]] = {name: {key: [] for key in (*STEPS, "products")} for name in built}
    faults: dict[str, float] = {}
    for repeat in range(plan.repeats):
        for name, (_, programs) in built.items():
            for key, step in programs.steps.items():
                taken, touched = turn(step, plan)
                ms[name][key].append(taken)
                if key == "full":
                    faults[name] = touched
            ms[name]["products"].append(programs.replay.turn() * 1e3)
        say(f"{', '.join(built)}: turn {repeat + 1} of {plan.repeats}")
    found = [_timing(cell, programs, plan, ms[name], faults[name]) for name, (cell, programs) in built.items()]
    built.clear()
    gc.collect()
    return found


def _timing(cell: Cell, programs: Programs, plan: Plan, ms: dict[str, list[float]], faults: float) -> Timing:
    cost, items = cost_of(programs.ranker), plan.lists * LENGTH
    slowest = [
        (product.describe(), count, seconds * 1e3, product.flops / max(seconds, 1e-9) / 1e9)
        for product, count, seconds in programs.replay.slowest(8)
    ]
    forward = cost.flops_per_item * items + cost.flops_per_list * plan.lists
    total = flops_of(programs.replay.counts.elements())
    return Timing(cell.backbone, cell.size, cell.precision, items, 3 * forward, total, cost.dense_parameters, ms, faults, slowest)
