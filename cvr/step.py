"""One training step: losses, gradients, update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from cvr.data import Batch
from cvr.gates import GateUse
from cvr.guard import LossGuard
from cvr.layers.mmoe import gate_use
from cvr.losses import Loss, listwise_losses
from cvr.optimizers import RankerOptimizer
from cvr.ranker import Ranker


class Outcome(NamedTuple):
    """What is known of a step: the loss of each task `[T]`, the norm of all gradients, and the use of the gates `[T, 1 + E]`."""

    losses: tf.Tensor
    norm: tf.Tensor
    gates: tf.Tensor


class TrainingStep:
    """What happens to one batch; a graph of it is traced once by `compile`."""

    def __init__(self, ranker: Ranker, optimizer: RankerOptimizer, guard: LossGuard, max_list_size: int, loss: Loss) -> None:
        self.ranker, self.optimizer, self.guard = ranker, optimizer, guard
        self.max_list_size, self.loss = max_list_size, loss
        self.gate_use = GateUse(ranker.head)

    def compile(self, dataset: tf.data.Dataset, jit_compile: bool = False) -> Callable[[Batch], tf.Tensor]:
        """The step as one graph: the signature leaves open what differs between batches, the number of bagged ids.

        Strings stay outside, since XLA has none.
        """
        signature = {name: spec for name, spec in dataset.element_spec.items() if spec.dtype != tf.string}
        graph = tf.function(self.__call__, autograph=False, jit_compile=jit_compile or None, input_signature=[signature])
        return lambda batch: graph({name: batch[name] for name in signature})

    def __call__(self, batch: Batch) -> tf.Tensor:
        """Trains on one batch; returns the loss of each task `[T]`."""
        outcome = self.update(batch)
        self.watch(outcome)
        return outcome.losses

    def update(self, batch: Batch) -> Outcome:
        """Trains on one batch."""
        with tf.GradientTape() as tape:
            losses, gates = self.losses(batch)
            total = tf.reduce_sum(losses) + sum(self.ranker.losses)  # the penalties that the backbone adds in training
        variables = self.ranker.trainable_variables
        gradients = tape.gradient(total, variables)
        return Outcome(losses, self.optimizer.apply_gradients(list(zip(gradients, variables, strict=True))), gates)

    def losses(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss of each task in training `[T]`, and the use of the gates `[T, 1 + E]`."""
        logits, gates = self.ranker(batch, training=True, with_gates=True)
        return listwise_losses(logits, batch, self.max_list_size, self.loss), gate_use(gates, batch["item_mask"])

    @property
    def guards(self) -> list[tuple[LossGuard, Sequence[str]]]:
        """What watches losses, with their names."""
        return [(self.guard, self.ranker.task_names)]

    @property
    def state(self) -> dict[str, tf.Module]:
        """What a resumed run needs beside ranker and optimizer, by its name in checkpoints; so it logs the same numbers."""
        return {"guard": self.guard, "gate_use": self.gate_use}

    def take_values(self) -> dict[str, float]:
        """Further numbers for the history, by name, since the last call."""
        return self.gate_use.values(self.ranker.task_names)

    def watch(self, outcome: Outcome) -> None:
        """Notes what the guard and the history want of a step."""
        self.guard.watch(outcome.losses, outcome.norm)
        self.gate_use.note(outcome.gates)
