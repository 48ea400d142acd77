"""Processes that train together on this machine, each forked from a server with all imports done."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.cvr.jobs import train_job

SECONDS = 240
"""A process that takes longer is killed, and its test fails."""


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def cluster_of(**counts: int) -> dict[str, list[str]]:
    """Addresses on the loopback device for so many tasks of each kind."""
    ports = iter(free_ports(sum(counts.values())))
    return {kind: [f"localhost:{next(ports)}" for _ in range(count)] for kind, count in counts.items()}


def _must_not_write(*args: object, **kwargs: object) -> None:
    raise AssertionError("only the chief writes")


def _train(log: Path, arguments: Sequence[str], task: Mapping[str, Any], die_at: int, cpus: int, places: Path | None) -> None:
    """A child: all that it prints goes to `log`; it kills itself after step `die_at`; `places` gets devices and shapes of its variables."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    import tensorflow as tf

    from cvr import checkpoints, distribution, history, runs
    from cvr.ranker import Ranker

    if task:
        os.environ["TF_CONFIG"] = json.dumps(task)
        if task["task"]["type"] == "worker" and task["task"]["index"] > 0:
            checkpoints.CheckpointFolder.write = _must_not_write
            history.History.__init__ = runs.publish_json = _must_not_write
    if task.get("inside"):  # all but the chief in this process
        others = [(kind, i) for kind, found in task["cluster"].items() for i in range(len(found)) if kind != "chief"]
        servers = [tf.distribute.Server(task["cluster"], job_name=kind, task_index=i, protocol="grpc") for kind, i in others]
        assert len(servers) == len(others)  # and they live as long as this function
    if cpus > 1:
        logical = [tf.config.LogicalDeviceConfiguration()] * cpus
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    advance, check = checkpoints.TrainingState.advance, distribution.check_ranker

    def dying(state: checkpoints.TrainingState) -> int:
        done = advance(state)
        if done == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    def noting(distribute: str, ranker: Ranker) -> None:
        check(distribute, ranker)
        if places:
            places.write_text(json.dumps([(v.device, list(v.shape)) for v in ranker.trainable_variables]))

    checkpoints.TrainingState.advance, distribution.check_ranker = dying, noting
    sys.exit(train_job(*arguments))


class Processes:
    """Starts processes of `cvr.train`; `end` leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.cvr.jobs"])
        self._started: dict[str, BaseProcess] = {}

    def start(
        self, name: str, *arguments: str, task: Mapping[str, Any] | None = None, die_at: int = 0, cpus: int = 1, places: Path | None = None
    ) -> None:
        """Starts one by the name `name`."""
        process = self._context.Process(target=_train, args=(self._folder / name, arguments, task or {}, die_at, cpus, places))
        process.start()
        self._started[name] = process

    def code(self, name: str) -> int | None:
        """Waits for a process; its exit code, None where it did not end in time."""
        self._started[name].join(SECONDS)
        return self._started[name].exitcode

    def said(self, name: str) -> str:
        """What a process printed."""
        return (self._folder / name).read_text(errors="replace")

    def end(self) -> None:
        """Kills those that still run."""
        for process in self._started.values():
            process.kill()
            process.join()
