"""Runs a Beam graph on a Dask cluster, with the flags of Beam's own DaskRunner.

Beam's translation (2.77) ignores output tags, so that every consumer of a step gets all of its outputs, repeats elements where workers are
threads, and computes side inputs anew inside of each task. `pipelines.dask_graph` translates the graph instead.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import dask
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dask import dask_runner as beams
from apache_beam.runners.runner import PipelineResult, PipelineState
from distributed import Client, LocalCluster, as_completed

from cvr.errors import CvrError
from pipelines.dask_graph import SpreadReshuffle, Translator

_WORKER_PACKAGES = ("cvr", "pipelines")


class DaskResult(PipelineResult):
    """A running pipeline; its end closes the connection, and the cluster where this runner made it."""

    def __init__(self, client: Client, cluster: LocalCluster | None, futures: list[Any]) -> None:
        super().__init__(PipelineState.RUNNING)
        self._client, self._cluster, self._futures = client, cluster, futures

    def wait_until_finish(self, duration: int | None = None) -> str:
        """Waits for all tasks; the first that failed raises its error here, and the others are cancelled."""
        self._state = PipelineState.FAILED
        try:
            seconds = None if duration is None else duration / 1000
            for _ in as_completed(self._futures, with_results=True, timeout=seconds):
                pass
            self._state = PipelineState.DONE
        finally:
            self._client.cancel(self._futures)
            _close(self._client, self._cluster)
        return self._state


def _close(client: Client, cluster: LocalCluster | None) -> None:
    client.close()
    if cluster is not None:
        cluster.close()


def _connect(flags: dict[str, Any]) -> tuple[Client, LocalCluster | None]:
    if "address" in flags or "scheduler_file" in flags:
        try:
            return Client(**flags), None
        except OSError as error:
            where = flags.get("address") or flags["scheduler_file"]
            raise CvrError(f"--runner=DaskRunner: no Dask scheduler answers at {where} ({error})") from error
    with dask.config.set({"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "warning"}):
        cluster = LocalCluster(dashboard_address=None)
    return Client(cluster, **flags), cluster


def _check_workers(client: Client) -> None:
    """Raises CvrError where there is no worker, or one lacks this project."""

    def missing(names: Sequence[str]) -> list[str]:  # nested, so that it travels by value to workers without this module
        import importlib.util

        return [name for name in names if importlib.util.find_spec(name) is None]

    answers = client.run(missing, _WORKER_PACKAGES)
    if not answers:
        raise CvrError("--runner=DaskRunner: the Dask scheduler has no worker; start some: dask worker <scheduler address>")
    for worker, names in answers.items():
        if names:
            raise CvrError(f"--runner=DaskRunner: worker {worker} lacks {', '.join(names)}; install this package there")


class DaskRunner(beams.DaskRunner):
    """Beam's DaskRunner with the translation above."""

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> DaskResult:
        """Starts a pipeline on --dask_client_address or --dask_scheduler_file, else on a cluster on this machine."""
        logging.getLogger("distributed").setLevel(logging.WARNING)
        flags = options.view_as(beams.DaskOptions).get_all_options(drop_default=True, current_only=True)
        asked = beams.DaskOptions._extract_bag_kwargs(flags).get("npartitions")
        client, cluster = _connect(flags)
        try:
            _check_workers(client)
            pipeline.replace_all([SpreadReshuffle()])
            translator = Translator(asked or min(max(8, 2 * sum(client.nthreads().values())), 128), options)
            pipeline.visit(translator)
            return DaskResult(client, cluster, client.compute(translator.sinks()))
        except BaseException:
            _close(client, cluster)
            raise
