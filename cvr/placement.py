"""Where training happens: here, in this process and on one device. `cvr.replicas` and `cvr.parameter_servers` do it elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from cvr.data import Batch, Budget, Shuffle, batches
from cvr.schema import FeatureSpec
from cvr.settings import TrainingData
from cvr.step import TrainingStep

Element: TypeAlias = Any
"""What a step is made of: an element of a placement's dataset."""
Run: TypeAlias = Callable[[Element], int]
"""Does a step; gives the number of its items, of all processes together."""


class Placement:
    """One process, one device."""

    is_chief = True
    """Whether this process writes checkpoints, history and `run.json`."""
    stop_every = 1
    """Steps between looks whether a signal asks to stop."""

    def scope(self) -> contextlib.AbstractContextManager[object]:
        """Ranker and optimizer are made inside."""
        return contextlib.nullcontext()

    def dataset(self, spec: FeatureSpec, data: TrainingData, budget: Budget, shuffle: Shuffle, skip: int) -> tf.data.Dataset:
        """What the steps of an epoch take, from step number `skip` on."""
        return batches(spec, data.train, budget, shuffle, skip=skip)

    def compile(self, step: TrainingStep, dataset: tf.data.Dataset, jit_compile: bool) -> Run:
        """The step on elements of such a dataset."""
        graph = step.compile(dataset, jit_compile)

        def run(batch: Batch) -> int:
            graph(batch)
            return int(tf.reduce_sum(batch["list_size"]))

        return run

    def settle(self) -> None:
        """Returns when all steps are done and watched."""

    def total(self, value: float) -> float:
        """The sum of a value over all processes that train, each of which must call this."""
        return value

    def from_chief(self, value: float) -> float:
        """The chief's value, in each process."""
        return self.total(value if self.is_chief else 0.0)

    def guarded(self) -> contextlib.AbstractContextManager[None]:
        """Inside, a lost process is a CvrError that names it."""
        return contextlib.nullcontext()

    def describe(self) -> str:
        """For the terminal; empty where there is nothing to say."""
        return ""
