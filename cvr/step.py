"""One training step: losses, gradients, update."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from cvr.data import Batch
from cvr.gates import GateUse
from cvr.guard import LossGuard
from cvr.losses import Loss, listwise_losses
from cvr.optimizers import RankerOptimizer
from cvr.ranker import Ranker


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

    def losses(self, batch: Batch, training: bool) -> tf.Tensor:
        """Loss of each task `[T]`."""
        logits, gates = self.ranker(batch, training=training, with_gates=True)
        self.gate_use.watch(gates, batch["item_mask"])
        return listwise_losses(logits, batch, self.max_list_size, self.loss)

    def __call__(self, batch: Batch) -> tf.Tensor:
        """Trains on one batch; returns the loss of each task `[T]`."""
        with tf.GradientTape() as tape:
            losses = self.losses(batch, training=True)
            total = tf.reduce_sum(losses) + sum(self.ranker.losses)  # the penalties that the backbone adds in training
        variables = self.ranker.trainable_variables
        gradients = tape.gradient(total, variables)
        norm = self.optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))
        self.guard.watch(losses, norm)
        return losses
