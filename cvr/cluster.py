"""The processes that train together: who they are, by TF_CONFIG, and whether all of them are there."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from cvr.errors import CvrError

CHIEF, WORKER, SERVER = "chief", "worker", "ps"
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
_POLL = 0.1
"""Seconds between two looks."""
_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Addresses `host:port` by kind of task, and which task this process is."""

    jobs: Mapping[str, tuple[str, ...]]
    kind: str
    index: int

    @property
    def address(self) -> str:
        """Where this process listens."""
        return self.jobs[self.kind][self.index]

    @property
    def name(self) -> str:
        """This task: its kind and number."""
        return f"{self.kind} {self.index}"

    @property
    def trainers(self) -> list[str]:
        """Addresses of those that train, the chief first: task `chief`, or the first worker where there is none."""
        return [*self.jobs.get(CHIEF, ()), *self.jobs.get(WORKER, ())]

    @property
    def is_chief(self) -> bool:
        """Whether this process writes."""
        return self.address == self.trainers[0]

    def others(self) -> dict[str, str]:
        """Addresses of all other tasks, by their names."""
        tasks = {f"{kind} {index}": address for kind, found in self.jobs.items() for index, address in enumerate(found)}
        return {name: address for name, address in tasks.items() if name != self.name}

    def lost(self, reason: str) -> str:
        """An error's text: who does not answer any more, and what to do."""
        gone = [f"{name} at {address}" for name, address in self.others().items() if not reachable(address)]
        who = f"{', '.join(gone)} cannot be reached" if gone else "all other processes still listen"
        return (
            f"{self.name} lost its cluster: {reason}; {who}. See the logs of the others, stop what is left, and run the same command "
            "again in every process: training resumes from the last checkpoint"
        )

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What TensorFlow raises inside when a process is lost becomes a CvrError."""
        try:
            yield
        except _LOST as error:
            raise CvrError(self.lost(type(error).__name__)) from error


def read_cluster(flag: str, needed: Mapping[str, range]) -> Cluster:
    """This process's place in the cluster, from TF_CONFIG as TensorFlow reads it; `needed` says how many tasks of which kinds there are.

    Raises CvrError where TF_CONFIG is missing, no such JSON, or does not describe such a cluster.
    """
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        kind, index = resolver.task_type, resolver.task_id
        jobs = {name: tuple(addresses) for name, addresses in resolver.cluster_spec().as_dict().items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CvrError(f"{flag}: TF_CONFIG cannot be read ({error}); it should be like {_EXAMPLE}") from error
    if not jobs:
        raise CvrError(f"{flag} needs TF_CONFIG in the environment of each process, like {_EXAMPLE} (docs/distributed.md)")
    _check_jobs(flag, jobs, needed)
    if kind not in jobs or not isinstance(index, int) or not 0 <= index < len(jobs[kind]):
        places = ", ".join(f"{name} 0..{len(addresses) - 1}" for name, addresses in jobs.items())
        raise CvrError(f"{flag}: TF_CONFIG says that this process is task {kind!r} {index}, but its cluster has {places}")
    return Cluster(jobs, str(kind), index)


def _check_jobs(flag: str, jobs: Mapping[str, Sequence[str]], needed: Mapping[str, range]) -> None:
    unknown = sorted(set(jobs) - set(needed))
    if unknown:
        raise CvrError(f"{flag}: TF_CONFIG has tasks {', '.join(unknown)}; there may be {', '.join(needed)}")
    for kind, counts in needed.items():
        if len(jobs.get(kind, ())) not in counts:
            wanted = str(counts[0]) if len(counts) == 1 else f"{counts[0]} or more"
            raise CvrError(f"{flag}: TF_CONFIG has {len(jobs.get(kind, ()))} tasks {kind!r}, {wanted} are needed")
    addresses = [address for found in jobs.values() for address in found]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise CvrError(f"{flag}: address {address!r} in TF_CONFIG is no host:port")
        if addresses.count(address) > 1:
            raise CvrError(f"{flag}: address {address} stands in TF_CONFIG more than once")


def reachable(address: str, seconds: float = 2.0) -> bool:
    """Whether something takes a connection at an address."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            return True
    except OSError:
        return False


def meet(cluster: Cluster, others: Mapping[str, str], seconds: float) -> None:
    """Returns once all others listen; until then this process listens, too, so that they find it.

    TensorFlow itself would wait for them without an end or a word. Raises CvrError naming those that are not there after `seconds`, and
    where this process cannot listen at its own address.
    """
    end = time.monotonic() + seconds
    with _listening(cluster, end):
        missing = dict(others)
        while True:
            missing = {name: address for name, address in missing.items() if not reachable(address)}
            if not missing:
                return
            if time.monotonic() >= end:
                told = ", ".join(f"{name} at {address}" for name, address in missing.items())
                raise CvrError(
                    f"{cluster.name} waited {seconds:g} s (--cluster_timeout) for {told}: start each with the same command "
                    "and its own task in TF_CONFIG, and check its log, the addresses and the firewall"
                )
            time.sleep(_POLL)


@contextlib.contextmanager
def _listening(cluster: Cluster, end: float) -> Iterator[None]:
    """A socket at this process's address; waits for an earlier process there to end."""
    port = int(cluster.address.rpartition(":")[2])
    both: dict[str, Any] = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
    while True:
        try:
            listener = socket.create_server(("", port), **both)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= end:
                raise CvrError(
                    f"{cluster.name} cannot listen on port {port} of TF_CONFIG ({error.strerror}); is another process of "
                    "this task still running?"
                ) from error
            time.sleep(_POLL)
    with listener:
        yield
