"""What `tools.benchmarks.encoders` times: one encoder on the histories of some lists and, if it makes a vector per item, on their items.

    forward     events, items and candidates -> the encoder's vectors
    training    that, and the gradients of their sum of squares by the encoder's weights, the events, the items and the candidates

Vectors are random, and histories full. Looking them up and the optimizers are not part of it: they cost the same with every encoder.
Cells whose tensors would take too much memory are left out and say so; how much is read off the graph before anything runs.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from cvr import encoders
from cvr.activations import kept_bytes, peak_bytes
from cvr.encoders.behaviour import Behaviour
from cvr.schema import Feature, parse_spec
from cvr.tracing import Trace
from tools.benchmarks.train_steps import Step, turn

PASSES = ("forward", "training")
GIB = 2**30
_PROFILE = (8, 16)
"""Widths of the vectors of the other context features."""
_FEATURE = "history"
_SPEC = """
dataset: benchmark
tasks: {{purchase: {{events: [purchase], window: 1d, primary: true}}}}
features:
  history: {{kind: sequence, level: context, history: {{events: [click], length: {events}}}, embedding: {{buckets: 8, dim: {dim}}},
    encoder: {encoder}}}
"""
Inputs = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Lists of a step, width of the vectors, most memory of a cell; `repeats` turns of up to `steps` steps that end after `seconds`."""

    lists: int = 1
    dim: int = 16
    memory_gib: float = 4.0
    repeats: int = 5
    steps: int = 20
    seconds: float = 0.2
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Cell:
    """An encoder, forward or in training, on lists of some items with histories of some events."""

    encoder: str
    kind: str
    items: int
    events: int


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of a step, one value per turn; none where the cell was `skipped`, with the reason.

    `gib`: the most that its tensors take at a time; in training, what they keep for the gradients.
    """

    encoder: str
    kind: str
    items: int
    events: int
    gib: float
    ms: list[float]
    skipped: str = ""


def cells(names: Sequence[str], items: Sequence[int], events: Sequence[int]) -> list[Cell]:
    """All combinations; an encoder without vectors per item has lists of one size, since it does not see them."""
    found = []
    for name in names:
        sizes = items if encoders.load(feature_of(name, 1, 2)).PER_ITEM else items[:1]
        found += [Cell(name, kind, size, length) for kind in PASSES for size in sizes for length in events]
    return found


def feature_of(encoder: str, events: int, dim: int) -> Feature:
    """A history of a spec, as the encoder's factory wants it."""
    return parse_spec(_SPEC.format(encoder=encoder, events=events, dim=dim)).features[_FEATURE]


def make_inputs(per_item: bool, lists: int, items: int, events: int, plan: Plan) -> Inputs:
    """The tensors of a `Behaviour`: `lists` histories of `events` real events, `items` items each, none of them in its history."""
    source = np.random.default_rng([plan.seed, lists, items, events])

    def normal(*shape: int) -> tf.Tensor:
        return tf.constant(source.standard_normal(shape, np.float32))

    given: Inputs = {
        "events": normal(lists, events, plan.dim),
        "items": normal(lists, events, plan.dim),
        "real": tf.ones([lists, events], tf.bool),
        "age": tf.constant(np.sort(source.integers(1, 10**7, (lists, events))), tf.float32),
        "profile": tuple(normal(lists, width) for width in _PROFILE),
        "list_index": tf.repeat(tf.range(lists), items),
    }
    if not per_item:
        return given
    return given | {"candidates": normal(lists * items, plan.dim), "match": tf.zeros([lists * items, events], tf.bool)}


class Program:
    """A cell's encoder as a graph, and what its tensors take."""

    def __init__(self, cell: Cell, plan: Plan) -> None:
        feature = feature_of(cell.encoder, cell.events, plan.dim)
        self._module = encoders.load(feature)
        self.layer = encoders.make_encoder(feature, plan.dim, "encoder")
        _encode(self._module, self.layer, make_inputs(self._module.PER_ITEM, 1, 1, min(2, cell.events), plan))  # makes the weights
        self._inputs = functools.partial(make_inputs, self._module.PER_ITEM, plan.lists, cell.items, cell.events, plan)
        self.step, self.bytes = self._compiled(cell)

    def _compiled(self, cell: Cell) -> tuple[Step, int]:
        given, forward = self._inputs(), 0

        def step(inputs: Inputs) -> Any:
            nonlocal forward
            if cell.kind == "forward":
                return _encode(self._module, self.layer, inputs)
            wanted = [value for value in tf.nest.flatten(inputs) if value.dtype.is_floating]
            with tf.GradientTape() as tape:
                tape.watch(wanted)
                total = tf.reduce_sum(tf.square(_encode(self._module, self.layer, inputs)))
            forward = len(tf.compat.v1.get_default_graph().get_operations())
            gradients = tape.gradient(total, [*wanted, *self.layer.trainable_variables])
            return total, [gradient for gradient in gradients if gradient is not None]

        function = tf.function(step, autograph=False).get_concrete_function(given)
        trace = Trace(function.graph, tuple(function.graph.outputs), forward)
        if cell.kind == "forward":
            return functools.partial(function, given), peak_bytes(trace, cell.items)
        return functools.partial(function, given), kept_bytes(trace, cell.items)


def _encode(module: ModuleType, layer: tf.keras.layers.Layer, inputs: Inputs) -> tf.Tensor:
    absent: Inputs = {} if module.PER_ITEM else {"candidates": None, "match": None}
    return module.encode(layer, Behaviour(**inputs, **absent))


def measure(wanted: Sequence[Cell], plan: Plan, say: Callable[[str], None]) -> list[Timing]:
    """Times all cells in turns: all once, then all again, beginning with another one, so that they share whatever the machine does.

    Cells of one history length are held at a time, so that their inputs fit.
    """
    found = []
    for events in dict.fromkeys(cell.events for cell in wanted):
        found += list(_measured([cell for cell in wanted if cell.events == events], plan, say))
        gc.collect()
    return found


def _measured(group: Sequence[Cell], plan: Plan, say: Callable[[str], None]) -> Iterator[Timing]:
    programs = {cell: Program(cell, plan) for cell in group}
    room = {cell: program.bytes / GIB for cell, program in programs.items()}
    able = [cell for cell in group if room[cell] <= plan.memory_gib]
    ms: dict[Cell, list[float]] = {cell: [] for cell in group}
    for repeat in range(plan.repeats):
        shift = repeat * len(PASSES) % max(1, len(able))
        for cell in able[shift:] + able[:shift]:
            ms[cell].append(turn(programs[cell].step, plan)[0])
        say(f"histories of {group[0].events:,} events: turn {repeat + 1} of {plan.repeats}")
    for cell in group:
        reason = "" if cell in able else f"its tensors would take {room[cell]:.1f} GiB, more than --memory_gib={plan.memory_gib:g}"
        yield Timing(cell.encoder, cell.kind, cell.items, cell.events, round(room[cell], 4), ms[cell], reason)
