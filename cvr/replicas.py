"""Replicas that make every step together, on the devices of one host or of several.

They train on exactly the batches of one process: each takes a share of a batch's lists (`cvr.sharing`), and losses and gradients are summed
before anything is clipped or updated,

    loss_t = sum_r (lists_r / lists) loss_tr        g = sum_r g_r, where rows of tables are gathered and then summed once

so that each replica's update is that of one process, but for rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import tensorflow as tf

from cvr import sharing
from cvr.cluster import Cluster
from cvr.data import Batch, Budget, Shuffle
from cvr.placement import Element, Placement, Run
from cvr.schema import FeatureSpec
from cvr.settings import TrainingData
from cvr.step import Outcome, TrainingStep

STOP_EVERY = 20
"""Steps after which hosts tell each other whether a signal came."""
_SUM = tf.distribute.ReduceOp.SUM


class Replicas(Placement):
    """One replica per device of this host, and with a cluster also of all others. Checkpoints are those of one process."""

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None) -> None:
        self._strategy, self._cluster = strategy, cluster
        self._replicas = strategy.num_replicas_in_sync
        self._local, self._first = self._replicas, 0
        if cluster:
            self._local //= len(cluster.trainers)
            self._first = self._local * cluster.trainers.index(cluster.address)
            self.is_chief, self.stop_every = cluster.is_chief, STOP_EVERY
        self._sum = tf.function(self._sum_of, input_signature=[tf.TensorSpec([], tf.float64)], autograph=False)

    def scope(self) -> contextlib.AbstractContextManager[object]:
        """Variables made inside have a copy per replica."""
        return self._strategy.scope()

    def dataset(self, spec: FeatureSpec, data: TrainingData, budget: Budget, shuffle: Shuffle, skip: int) -> tf.data.Dataset:
        """Shares of this process's replicas: each process reads all records, and decodes its own."""
        share = sharing.share_budget(budget, self._replicas, data.max_list_size)
        groups = sharing.groups(data.train, budget, shuffle, skip)
        return sharing.shares(spec, groups, share, range(self._first, self._first + self._local), self._replicas)

    def compile(self, step: TrainingStep, dataset: tf.data.Dataset, jit_compile: bool) -> Run:
        """One graph for all replicas of this process."""
        assert not jit_compile  # `cvr.distribution` refuses it
        shares = [{name: spec for name, spec in share.items() if spec.dtype != tf.string} for share in dataset.element_spec[1]]

        def work(given: list[Batch]) -> None:
            outcome = self._strategy.run(lambda: self._update(step, given))
            step.watch(Outcome(*map(self._first_of, outcome)))

        graph = tf.function(work, autograph=False, input_signature=[shares])

        def run(element: Element) -> int:
            items, given = element
            graph([{name: share[name] for name in names} for share, names in zip(given, shares, strict=True)])
            return int(items)

        return run

    def _update(self, step: TrainingStep, given: Sequence[Batch]) -> Outcome:
        """What one replica does."""
        context = tf.distribute.get_replica_context()
        batch = given[int(tf.get_static_value(context.replica_id_in_sync_group)) - self._first]
        lists, items = tf.math.count_nonzero(batch["list_size"], dtype=tf.float32), tf.reduce_sum(batch["item_mask"])
        all_lists, all_items = context.all_reduce(_SUM, [lists, items])
        with tf.GradientTape() as tape:
            losses, gates = step.losses(batch)
            losses *= lists / all_lists
            total = tf.reduce_sum(losses)
        variables = step.ranker.trainable_variables
        gradients = context.all_reduce(_SUM, tape.gradient(total, variables))
        losses, gates = context.all_reduce(_SUM, [losses, gates * (items / all_items)])
        pairs = list(zip(gradients, variables, strict=True))
        return Outcome(losses, step.optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False), gates)

    def _first_of(self, value: tf.Tensor) -> tf.Tensor:
        """The value of this process's first replica; after a sum all have the same."""
        return self._strategy.experimental_local_results(value)[0]

    def total(self, value: float) -> float:
        """One sum over all processes."""
        return float(self._sum(tf.constant(value, tf.float64)).numpy()) if self._cluster else value

    def _sum_of(self, value: tf.Tensor) -> tf.Tensor:
        def replica() -> tf.Tensor:
            return tf.distribute.get_replica_context().all_reduce(_SUM, value / self._local)

        return self._first_of(self._strategy.run(replica))

    def guarded(self) -> contextlib.AbstractContextManager[None]:
        """A sum over all processes that breaks off, or takes longer than --cluster_timeout, has lost one."""
        return self._cluster.guarded() if self._cluster else contextlib.nullcontext()

    def describe(self) -> str:
        """Which replicas are here."""
        here = f"replicas {self._first} to {self._first + self._local - 1} of {self._replicas}"
        return f"{self._cluster.name}: {here}" if self._cluster else f"{self._replicas} replicas"
