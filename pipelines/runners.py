"""The Beam runner of a pipeline: its name, what it needs on this machine, and errors that say what is missing. docs/runners.md."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
from collections.abc import Sequence

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.runner import PipelineState

from cvr.errors import CvrError
from pipelines.beam_flags import suggest

_EXTRAS = {"DaskRunner": ("dask", ("dask", "distributed")), "DataflowRunner": ("gcs", ("google.auth", "google.cloud.storage"))}
_OURS = {"DaskRunner": "pipelines.dask_runner.DaskRunner"}
_JOB_SERVERS = {"FlinkRunner": "flink", "SparkRunner": "spark"}
_LOCAL_MASTER = re.compile(r"\[(local|auto)\]|local(\[.+\])?")
_IN_CONTAINERS = ("FlinkRunner", "SparkRunner", "PortableRunner", "DataflowRunner")


def runner_name(asked: str | None) -> str:
    """A runner's class name, from what --runner allows: `FlinkRunner`, `flink`, a full path of a class, or nothing (DirectRunner).

    Raises CvrError for a name that there is no runner for.
    """
    if not asked:
        return str(StandardOptions.DEFAULT_RUNNER)
    known = {name.lower(): name for name in (*StandardOptions.KNOWN_RUNNER_NAMES, *_OURS)}
    last = asked.rsplit(".", 1)[-1]
    found = known.get(last.lower(), known.get(f"{last.lower()}runner"))
    if found is None and "." not in asked:
        names = sorted(known.values())
        close = suggest(asked if asked.endswith("Runner") else f"{asked}Runner", names) or f"; there are {', '.join(names)}"
        raise CvrError(f"--runner={asked}: no such runner{close}; or give the full path of its class")
    return found or last


def _missing(modules: Sequence[str]) -> list[str]:
    missing = []
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        missing += [] if found else [module]
    return missing


def require_extra(name: str) -> None:
    """Raises CvrError where a runner's extra of this package is not installed."""
    extra, modules = _EXTRAS.get(name, ("", ()))
    missing = _missing(modules)
    if missing:
        raise CvrError(f"--runner={name} needs the extra {extra!r} ({', '.join(missing)} is missing): pip install 'cvr[{extra}]'")


def _check_job_server(name: str, options: PipelineOptions) -> None:
    """A job server must be there, or be startable: a Java launcher and a jar that exists or that Beam may fetch."""
    kind = _JOB_SERVERS.get(name)
    portable = options.view_as(PortableOptions)
    if name == "PortableRunner" and not portable.job_endpoint:
        raise CvrError("--runner=PortableRunner needs --job_endpoint=host:port of a job server, or =embed for one in this process")
    if kind is None or portable.job_endpoint:
        return
    own = options.view_as(FlinkRunnerOptions if kind == "flink" else SparkRunnerOptions)
    if getattr(own, f"{kind}_submit_uber_jar"):
        return
    java = options.view_as(JobServerOptions).job_server_java_launcher
    if not shutil.which(java):
        raise CvrError(
            f"--runner={name} starts a job server in Java, and there is no {java!r} here: install Java 11 or later, give "
            "--job_server_java_launcher=/path/to/java, or the address of a running job server, --job_endpoint=host:port"
        )
    jar = getattr(own, f"{kind}_job_server_jar")
    if jar and "://" not in jar and not os.path.exists(jar):
        raise CvrError(f"--{kind}_job_server_jar={jar}: no such file; docs/runners.md says where job-server jars come from")


def _check_workers(name: str, options: PipelineOptions) -> None:
    """Workers in containers start from Beam's plain image, which holds nothing of this project."""
    portable, setup = options.view_as(PortableOptions), options.view_as(SetupOptions)
    masters = {"FlinkRunner": ("flink_master", FlinkRunnerOptions), "SparkRunner": ("spark_master_url", SparkRunnerOptions)}
    if name not in _IN_CONTAINERS or portable.environment_type not in (None, "DOCKER"):
        return
    if name in masters and not portable.environment_type:
        flag, view = masters[name]
        if _LOCAL_MASTER.fullmatch(getattr(options.view_as(view), flag)):
            return  # Beam runs the workers in this process then
    given = [
        setup.setup_file,
        setup.extra_packages,
        setup.requirements_file,
        setup.prebuild_sdk_container_engine,
        options.view_as(WorkerOptions).sdk_container_image,
        portable.environment_config,
        portable.environment_options,
    ]
    if not any(given):
        here = "" if name == "DataflowRunner" else ", or --environment_type=LOOPBACK to run the workers on this machine"
        raise CvrError(
            f"--runner={name}: its workers would start from Beam's plain container image, which lacks this package; give "
            f"--setup_file=./setup.py, or an image that has it, --sdk_container_image=...{here}. docs/runners.md explains both"
        )


def pipeline_of(beam_flags: Sequence[str]) -> beam.Pipeline:
    """An empty pipeline on the runner that Beam's flags name; also sets the options of Beam's filesystems (credentials, endpoints).

    Raises CvrError where the runner's needs are not met on this machine, or a flag that it needs is missing.
    """
    options = PipelineOptions(list(beam_flags))
    standard = options.view_as(StandardOptions)
    name = runner_name(standard.runner)
    require_extra(name)
    if name in _OURS:
        standard.runner = _OURS[name]
    _check_job_server(name, options)
    _check_workers(name, options)
    workers = options.view_as(WorkerOptions)
    workers.default_sdk_harness_log_level = workers.default_sdk_harness_log_level or "WARNING"
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        problems = "; ".join(line for line in str(error).splitlines()[1:] if line) or str(error)
        raise CvrError(f"--runner={name}: {problems}") from error


def runs_here(pipeline: beam.Pipeline) -> bool:
    """Whether all steps run on this machine whatever the flags: Beam's DirectRunner, in threads or processes."""
    return runner_name(pipeline.options.view_as(StandardOptions).runner) == StandardOptions.DEFAULT_RUNNER


def use_cores(pipeline: beam.Pipeline, beam_flags: Sequence[str]) -> None:
    """Lets Beam's DirectRunner work in as many threads as there are cores, unless flags say otherwise. NumPy, Arrow, TensorFlow and gzip
    release Python's lock, so threads help where elements are batches; starting them takes a moment, so small builds do without."""
    if runs_here(pipeline) and not any(flag.startswith("--direct_") for flag in beam_flags):
        direct = pipeline.options.view_as(DirectOptions)
        direct.direct_running_mode, direct.direct_num_workers = "multi_threading", max(os.cpu_count() or 1, 1)


def check_reach(pipeline: beam.Pipeline, **paths: str) -> None:
    """Raises CvrError for a path on this machine (given by its flag's name) where the workers run in Google's cloud."""
    name = runner_name(pipeline.options.view_as(StandardOptions).runner)
    for flag, path in paths.items():
        if name == "DataflowRunner" and "://" not in path:
            raise CvrError(f"--{flag}={path}: Dataflow's workers cannot reach this machine's files; give a gs:// path")


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("KeyboardInterrupt")


def _is_interrupt(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        if str(error).startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return error is not None


def run_pipeline(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline to its end.

    Ctrl-C stays KeyboardInterrupt, which Beam's local runner logs and turns into a RuntimeError. Raises CvrError where a job server
    cannot be had, where workers raised one, and where the job was cancelled.
    """
    logging.getLogger("apache_beam.runners.common").addFilter(_is_no_interrupt)
    endpoint = pipeline.options.view_as(PortableOptions).job_endpoint
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except grpc.FutureTimeoutError as error:
        raise CvrError(f"--job_endpoint={endpoint}: no job server answers there; start it, or raise --job_server_timeout") from error
    except RuntimeError as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        if str(error).startswith("Unable to fetch remote"):
            raise CvrError(f"{error}. docs/runners.md says which file to fetch and which flag names it") from error
        ours = re.findall(r"^cvr\.errors\.CvrError: (.*?)(?: \[while running .*)?$", str(error), re.M)
        if ours:
            raise CvrError(ours[-1]) from error
        raise
    if result.state not in (PipelineState.DONE, PipelineState.UNKNOWN):
        raise CvrError(f"the pipeline ended as {result.state}, not {PipelineState.DONE}; nothing was published")
