"""--distribute: what may be spread, and over what."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy as collective

from cvr.cluster import CHIEF, SERVER, WORKER, Cluster, meet, read_cluster
from cvr.errors import CvrError
from cvr.layers.sparse_per_token_ffn import SparsePerTokenFFN
from cvr.parameter_servers import ParameterServers
from cvr.placement import Placement
from cvr.ranker import Ranker
from cvr.replicas import Replicas

STRATEGIES = ("none", "mirrored", "multi_worker", "parameter_server")
_MANY = range(1, 10_000)
_TASKS = {
    "multi_worker": {CHIEF: range(2), WORKER: _MANY},
    "parameter_server": {CHIEF: range(1, 2), WORKER: _MANY, SERVER: _MANY},
}
"""How many tasks of which kind TF_CONFIG must have."""


def check_flags(distribute: str, jit_compile: bool, deterministic: bool, warm_start: bool, teacher: bool = False) -> None:
    """Raises CvrError for what cannot go together."""
    if distribute == "none":
        return
    if teacher:
        raise CvrError(f"a teacher with --distribute={distribute}: only one process and device trains two models; leave one of them out")
    if jit_compile:
        raise CvrError(f"--jit_compile with --distribute={distribute}: sums over devices cannot be part of one XLA program; leave it out")
    if distribute == "parameter_server" and deterministic:
        raise CvrError(
            "--deterministic with --distribute=parameter_server: workers update the variables in no fixed order; "
            "mirrored and multi_worker can be deterministic"
        )
    if distribute == "parameter_server" and warm_start:
        raise CvrError("--warm_start_from with --distribute=parameter_server: rows of split tables cannot be carried over; leave one out")


def check_ranker(distribute: str, ranker: Ranker) -> None:
    """Raises CvrError for a ranker that learns from more of a batch than one replica sees."""
    if distribute != "none" and any(isinstance(layer, SparsePerTokenFFN) for layer in ranker.submodules):
        raise CvrError(
            f"sparse experts (--ffn_experts) with --distribute={distribute}: their penalty follows the share of open gates in a whole "
            "batch, which no replica sees; use --distribute=none"
        )


def task_of(distribute: str) -> Cluster | None:
    """This process's place in the cluster, where there is one. Raises CvrError when TF_CONFIG is missing or wrong."""
    return read_cluster(f"--distribute={distribute}", _TASKS[distribute]) if distribute in _TASKS else None


def only_serves(cluster: Cluster) -> bool:
    """Whether this process does what another one asks of it."""
    return SERVER in cluster.jobs and cluster.kind != CHIEF


def make_placement(distribute: str, cluster: Cluster | None, timeout: float) -> Placement:
    """Starts the strategy; of a cluster when all its processes are there. Must come before TensorFlow's first operation.

    Raises CvrError naming what is missing.
    """
    if cluster is None:
        return Replicas(tf.distribute.MirroredStrategy(_devices())) if distribute == "mirrored" else Placement()
    meet(cluster, cluster.others(), timeout)
    with cluster.guarded():
        if distribute == "parameter_server":
            return ParameterServers(cluster, timeout)
        _bear_silence(cluster, timeout / 4)
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy(communication_options=options), cluster)


def _bear_silence(cluster: Cluster, seconds: float) -> None:
    """A worker counts as lost after so many seconds without a heartbeat, instead of TensorFlow's 10, in which a busy host may not come to
    send one. There is no public way to say so."""
    leader = collective.multi_worker_util.coordination_leader(tf.train.ClusterSpec(dict(cluster.jobs)))
    jobs = [collective.coordination_config_pb2.CoordinatedJob(name=kind, num_tasks=len(found)) for kind, found in cluster.jobs.items()]
    collective.context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=leader,
        coordinated_jobs=jobs,
        heartbeat_timeout_in_ms=int(1000 * seconds),
    )


def _devices() -> list[str]:
    """All GPUs, or all logical CPUs."""
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(found) < 2:
        raise CvrError(f"--distribute=mirrored needs two devices on this host, and TensorFlow sees {found[0].name} alone; use none")
    return [device.name for device in found]
