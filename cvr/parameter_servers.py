"""Training with parameter servers: variables live on them, large tables split, and workers update them without waiting for each other."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvr import records, sharing
from cvr.cluster import CHIEF, SERVER, WORKER, Cluster, reachable
from cvr.data import Budget, Shuffle, assemble
from cvr.errors import CvrError
from cvr.placement import Element, Placement, Run
from cvr.runs import RUN_FILE
from cvr.schema import FeatureSpec
from cvr.settings import TrainingData
from cvr.step import Outcome, TrainingStep

TABLE_ROWS = 4096
"""Variables of at least so many rows are split over all parameter servers; smaller ones are whole, on one of them."""
GRACE = 5.0
"""Seconds without the chief after which workers and parameter servers end."""


def split_tables(servers: int) -> tf.distribute.experimental.partitioners.Partitioner:
    """Into how many parts a variable goes."""
    split = tf.distribute.experimental.partitioners.FixedShardsPartitioner(servers)

    def partitions(shape: tf.TensorShape, dtype: tf.DType, axis: int = 0) -> Sequence[int]:
        return split(shape, dtype, axis) if shape[0] >= TABLE_ROWS else [1] * len(shape)

    return partitions


class _Coordinator(tf.distribute.coordinator.ClusterCoordinator):
    """TensorFlow's, but for its finalizer, which waits for ever for its threads where Python exits after a process was lost."""

    def __del__(self) -> None:
        """The threads are daemons and end with the process."""


class ParameterServers(Placement):
    """The chief. It reads the records, in the order of one process, and gives a batch to whichever worker is free; workers decode them.

    Workers read variables and update them while others do, so no two runs are alike. A batch whose worker is lost is given to another.
    """

    def __init__(self, cluster: Cluster, timeout: float) -> None:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        splitter = split_tables(len(cluster.jobs[SERVER]))
        self._strategy = tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=splitter)
        if self._strategy.num_replicas_in_sync > 1:
            raise CvrError("--distribute=parameter_server: a worker uses one GPU; start a worker for each (CUDA_VISIBLE_DEVICES)")
        self._coordinator = _Coordinator(self._strategy)
        self._cluster, self._timeout = cluster, timeout
        self._budget: Budget | None = None
        self._step: TrainingStep | None = None
        self._running: list[Any] = []

    def scope(self) -> contextlib.AbstractContextManager[object]:
        """Variables made inside are on the parameter servers."""
        return self._strategy.scope()

    def dataset(self, spec: FeatureSpec, data: TrainingData, budget: Budget, shuffle: Shuffle, skip: int) -> tf.data.Dataset:
        """(items, records) of each batch."""
        self._budget = budget
        groups = sharing.groups(data.train, budget, shuffle, skip)
        return groups.map(lambda group: (tf.reduce_sum(records.list_sizes(group)), group)).prefetch(4)

    def compile(self, step: TrainingStep, dataset: tf.data.Dataset, jit_compile: bool) -> Run:
        """Starts a step on some worker; `settle` waits for it."""
        del dataset
        assert not jit_compile  # `cvr.distribution` refuses it
        spec, budget, self._step = step.ranker.spec, self._budget, step

        def work(group: tf.Tensor) -> Outcome:
            return self._strategy.run(lambda: step.update(assemble(spec, records.parse(spec, group), budget)))

        graph = tf.function(work, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])

        def run(element: Element) -> int:
            items, group = element
            self._running.append(self._coordinator.schedule(graph, args=(group,)))
            return int(items)

        return run

    def settle(self) -> None:
        """Waits for the steps in progress. Raises CvrError when they take longer than --cluster_timeout."""
        end = time.monotonic() + self._timeout
        while not self._coordinator.done():
            if time.monotonic() > end:
                raise CvrError(self._cluster.lost(f"steps take longer than {self._timeout:g} s (--cluster_timeout)"))
            time.sleep(0.001)
        for outcome in self._running:
            assert self._step is not None
            self._step.watch(Outcome(*map(tf.constant, outcome.fetch())))
        self._running.clear()

    def guarded(self) -> contextlib.AbstractContextManager[None]:
        """Without one of the parameter servers nothing goes on."""
        return self._cluster.guarded()

    def describe(self) -> str:
        """How many there are."""
        return f"{len(self._cluster.jobs[WORKER])} workers, {len(self._cluster.jobs[SERVER])} parameter servers"


def serve(cluster: Cluster, timeout: float, output: Path) -> int:
    """A worker or a parameter server: it does what the chief asks until the chief ends; 0 where the run was finished then, else 1.

    Raises CvrError when there is no chief within `timeout` seconds, or something else listens at this process's address.
    """
    try:
        server = tf.distribute.Server(dict(cluster.jobs), job_name=cluster.kind, task_index=cluster.index, protocol="grpc")
    except tf.errors.OpError as error:
        raise CvrError(f"{cluster.name} cannot listen at {cluster.address}: is another process of this task still running?") from error
    print(f"{cluster.name} serves at {server.target.removeprefix('grpc://')}", flush=True)
    chief = cluster.jobs[CHIEF][0]
    deadline = time.monotonic() + timeout
    while not reachable(chief):
        if time.monotonic() > deadline:
            raise CvrError(f"{cluster.name} waited {timeout:g} s (--cluster_timeout) for the chief at {chief}: start it, check the address")
        time.sleep(0.1)
    seen = time.monotonic()
    while time.monotonic() - seen < GRACE:
        time.sleep(0.5)
        seen = time.monotonic() if reachable(chief) else seen
    path = output / RUN_FILE
    finished = path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("status") == "finished"
    print(f"{cluster.name}: the chief has ended{'' if finished else ' before the run was finished'}", flush=True)
    return 0 if finished else 1
