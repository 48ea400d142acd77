"""One build, the same records from every Beam runner that runs on one machine; and what is asked of the others before they start."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from absl import app
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, WorkerOptions
from apache_beam.runners.runner import PipelineState
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows

from cvr.errors import CvrError
from cvr.manifest import Manifest
from pipelines import runners
from pipelines.beam_flags import check_beam_flags
from pipelines.job import build
from pipelines.record_files import read_records
from pipelines.write import check_filesystem
from tests.pipelines.logs import settings, small_log, write_log

PORTABLE = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), *small_log())


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Dask cluster of two workers, threads of this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="inproc"
    ) as found:
        yield found.scheduler_address


def _records(output: Path, manifest: Manifest) -> dict[str, list[bytes]]:
    return {
        name: sorted(record for file in split.files for record in read_records(str(output / file.path)))
        for name, split in manifest.splits.items()
    }


@pytest.fixture(scope="module")
def expected(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[bytes]], Manifest]:
    """What Beam's own local runner builds; tests/pipelines/test_build_lists.py says what is in it."""
    output = tmp_path_factory.mktemp("direct")
    manifest = build(settings(log, output))
    return _records(output, manifest), manifest


@pytest.mark.parametrize("runner", ["portable", "processes", "dask"])
def test_every_runner_gives_the_same_records(
    runner: str, log: Path, tmp_path: Path, expected: tuple[dict[str, list[bytes]], Manifest], request: pytest.FixtureRequest
) -> None:
    flags = {"portable": PORTABLE, "processes": PROCESSES}.get(runner)
    if flags is None:
        flags = ("--runner=Dask", f"--dask_client_address={request.getfixturevalue('cluster')}", "--dask_npartitions=3")
    check_beam_flags(flags)
    manifest = build(settings(log, tmp_path / "out"), flags)
    records, direct = expected
    assert [len(found) for found in records.values()] == [24, 4]
    assert _records(tmp_path / "out", manifest) == records
    assert manifest.counts == direct.counts
    for name, split in direct.splits.items():
        found = manifest.splits[name]
        assert (found.lists, found.labels, found.coverage) == (split.lists, split.labels, split.coverage)
        assert sorted(file.sha256 for file in found.files) == sorted(file.sha256 for file in split.files)


# Dask: every construct that a graph of ours may use ---------------------------------------------------------------------------------


class _Halves(beam.DoFn):
    def process(self, number: int) -> Iterator[Any]:
        yield number
        yield beam.pvalue.TaggedOutput("halves", number / 2)


def _with_sides(number: int, plus: int, some: list[int], named: dict[str, int], one: int) -> tuple[Any, ...]:
    return number, plus, sorted(some), named, one


def test_dask_runs_tags_side_inputs_groups_and_combiners(cluster: str) -> None:
    flags = ["--runner=DaskRunner", f"--dask_client_address={cluster}", "--dask_npartitions=3"]
    pipeline = runners.pipeline_of(flags)
    both = pipeline | beam.Create([1, 2, 3, 4]) | beam.Reshuffle() | beam.ParDo(_Halves()).with_outputs("halves", main="all")
    assert_that(both.all, equal_to([1, 2, 3, 4]), "all")
    assert_that(both.halves, equal_to([0.5, 1, 1.5, 2]), "halves")
    total = both.all | beam.CombineGlobally(sum)
    nothing = both.all | "None" >> beam.Filter(lambda number: number > 9) | "Sum" >> beam.CombineGlobally(sum)
    assert_that((total, nothing) | beam.Flatten(), equal_to([10, 0]), "sums")
    named = pipeline | "Named" >> beam.Create([("a", 7)])
    sides = beam.pvalue.AsList(both.halves), beam.pvalue.AsDict(named)
    with_sides = both.all | beam.Map(_with_sides, 5, *sides, one=beam.pvalue.AsSingleton(total))
    halves = [0.5, 1.0, 1.5, 2.0]
    assert_that(with_sides, equal_to([(number, 5, halves, {"a": 7}, 10) for number in (1, 2, 3, 4)]), "sides")
    keyed = both.all | "Key" >> beam.Map(lambda number: (number % 2, number))
    groups = {"left": keyed, "right": keyed | "Odd" >> beam.Filter(lambda pair: pair[0])} | beam.CoGroupByKey()
    sets = groups | beam.MapTuple(lambda key, found: (key, sorted(found["left"]), sorted(found["right"])))
    assert_that(sets, equal_to([(0, [2, 4], []), (1, [1, 3], [1, 3])]), "groups")
    runners.run_pipeline(pipeline)


def test_dask_refuses_what_it_cannot_run(cluster: str) -> None:
    flags = ["--runner=DaskRunner", f"--dask_client_address={cluster}"]
    pipeline = runners.pipeline_of(flags)
    _ = pipeline | beam.Create([1]) | "Windows" >> beam.WindowInto(FixedWindows(10))
    with pytest.raises(CvrError, match="step 'Windows' uses windows; only global ones"):
        runners.run_pipeline(pipeline)
    pipeline = runners.pipeline_of(flags)
    _ = pipeline | "Lines" >> beam.io.ReadFromText(__file__)
    with pytest.raises(CvrError, match="step 'Lines.*keeps state or splits"):
        runners.run_pipeline(pipeline)


def test_an_error_of_a_dask_worker_is_raised_here(cluster: str) -> None:
    def fail(number: int) -> None:
        raise CvrError(f"file {number} is broken")

    pipeline = runners.pipeline_of(["--runner=DaskRunner", f"--dask_client_address={cluster}"])
    _ = pipeline | beam.Create([3]) | beam.Map(fail)
    with pytest.raises(CvrError, match="file 3 is broken"):
        runners.run_pipeline(pipeline)


def test_dask_without_a_scheduler() -> None:
    pytest.importorskip("distributed")
    pipeline = runners.pipeline_of(["--runner=DaskRunner", "--dask_client_address=tcp://127.0.0.1:9", "--dask_connection_timeout=1"])
    with pytest.raises(CvrError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        runners.run_pipeline(pipeline)


def test_an_error_of_a_portable_worker_is_read_from_the_job_s_message() -> None:
    def fail(number: int) -> None:
        raise CvrError(f"file {number} is broken")

    pipeline = runners.pipeline_of(PORTABLE)
    _ = pipeline | beam.Create([3]) | beam.Map(fail)
    with pytest.raises(CvrError, match="^file 3 is broken$"):
        runners.run_pipeline(pipeline)


# What each runner needs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (None, "DirectRunner"),
        ("flink", "FlinkRunner"),
        ("DaskRunner", "DaskRunner"),
        ("apache_beam.runners.dask.dask_runner.DaskRunner", "DaskRunner"),
        ("mine.MyRunner", "MyRunner"),
    ],
)
def test_names_of_runners(asked: str | None, name: str) -> None:
    assert runners.runner_name(asked) == name


JAVA = "--job_server_java_launcher=sh"  # stands for Java, which is looked for and not started here
REFUSED = {
    "a slip": (["--runner=Flnk"], "--runner=Flnk: no such runner; did you mean FlinkRunner"),
    "an unknown name": (["--runner=Quantum"], "no such runner; there are .*DaskRunner, DataflowRunner, DirectRunner, FlinkRunner"),
    "no endpoint": (["--runner=PortableRunner"], "needs --job_endpoint=host:port of a job server, or =embed"),
    "no Java": (["--runner=FlinkRunner", "--job_server_java_launcher=nowhere/java"], "there is no 'nowhere/java' here: install Java"),
    "no jar": (["--runner=spark", JAVA, "--spark_job_server_jar=no.jar"], "--spark_job_server_jar=no.jar: no such file"),
    "a plain container": (
        ["--runner=FlinkRunner", JAVA, "--flink_master=host:8081"], "Beam's plain container image, which lacks this .*--setup_file",
    ),
    "a plain container of a job server": (["--runner=PortableRunner", "--job_endpoint=host:8099"], "or --environment_type=LOOPBACK"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_runner_s_needs_are_checked_before_it_starts(case: str) -> None:
    flags, message = REFUSED[case]
    with pytest.raises(CvrError, match=message):
        runners.pipeline_of(flags)


@pytest.mark.parametrize(
    "flags",
    [
        ["--runner=FlinkRunner", JAVA],  # its workers are in this process
        ["--runner=FlinkRunner", "--flink_master=host:8081", JAVA, "--setup_file=./setup.py"],
        ["--runner=FlinkRunner", "--flink_master=host:8081", "--flink_submit_uber_jar", "--environment_config=image:1"],
        ["--runner=SparkRunner", "--spark_master_url=local[4]", JAVA],
        ["--runner=PortableRunner", "--job_endpoint=host:8099", "--environment_type=EXTERNAL", "--environment_config=host:50000"],
    ],
)
def test_what_is_enough_for_a_runner(flags: list[str]) -> None:
    options = runners.pipeline_of(flags).options
    assert runners.runner_name(options.view_as(StandardOptions).runner) in flags[0]
    assert options.view_as(WorkerOptions).default_sdk_harness_log_level == "WARNING"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runners._EXTRAS, "DirectRunner", ("made_up", ("absl", "google.made_up", "made.up")))
    with pytest.raises(CvrError, match=r"needs the extra 'made_up' \(google.made_up, made.up is missing\): pip install 'cvr\[made_up\]'"):
        runners.pipeline_of([])


def test_dataflow_s_missing_flags_and_local_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_EXTRAS", {})
    with pytest.raises(CvrError, match="--runner=DataflowRunner: .*Missing required option: project"):
        runners.pipeline_of(["--runner=DataflowRunner", "--setup_file=./setup.py", "--temp_location=gs://bucket/tmp"])
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    runners.check_reach(pipeline, input="logs")
    pipeline.options.view_as(StandardOptions).runner = "DataflowRunner"
    runners.check_reach(pipeline, input="gs://bucket/logs")
    with pytest.raises(CvrError, match="--output=lists: Dataflow's workers cannot reach this machine's files; give a gs:// path"):
        runners.check_reach(pipeline, input="gs://bucket/logs", output="lists")


def test_a_job_that_was_cancelled_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Cancelled:
        state: str = PipelineState.CANCELLED

        def wait_until_finish(self) -> str:
            return self.state

    pipeline = runners.pipeline_of([])
    monkeypatch.setattr(pipeline, "run", Cancelled)
    with pytest.raises(CvrError, match="the pipeline ended as CANCELLED"):
        runners.run_pipeline(pipeline)


def test_a_jar_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise RuntimeError("Unable to fetch remote job server jar at https://host/a.jar: no network")

    pipeline = runners.pipeline_of([])
    monkeypatch.setattr(pipeline, "run", unreachable)
    with pytest.raises(CvrError, match="a.jar: no network. docs/runners.md says which file to fetch"):
        runners.run_pipeline(pipeline)


def test_a_job_server_that_does_not_answer() -> None:
    flags = ["--runner=PortableRunner", "--job_endpoint=127.0.0.1:9", "--environment_type=LOOPBACK", "--job_server_timeout=1"]
    pipeline = runners.pipeline_of(flags)
    _ = pipeline | beam.Create([1])
    with pytest.raises(CvrError, match="--job_endpoint=127.0.0.1:9: no job server answers there"):
        runners.run_pipeline(pipeline)


# The command line -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--direct_num_worker=2"], "'--direct_num_worker=2': neither this command nor Beam has it; did you mean --direct_num_workers"),
        (["--runner=FlinkRunner", "--flink_mastr=a:1"], "did you mean --flink_master"),
        (["--runner=FlinkRunner", "logs"], "unknown flag or argument 'logs'"),
        ([*PORTABLE, "--checkpointing_interval=5"], "'--checkpointing_interval=5'"),
        (["--direct_num_workers=two"], "--direct_num_workers: invalid int value: 'two'"),
        (["--direct_running_mode=fast"], "invalid choice: 'fast'"),
    ],
)
def test_flags_that_are_wrong(flags: list[str], message: str) -> None:
    with pytest.raises(app.UsageError, match=message):
        check_beam_flags(flags)


def test_options_that_only_a_job_server_knows_pass_for_its_runner() -> None:
    check_beam_flags(["--runner=FlinkRunner", "--checkpointing_interval=60000", "--state_backend=rocksdb"])
    check_beam_flags(["--runner=PortableRunner", "--job_endpoint=host:8099", "--checkpointing_interval=60000"])


def test_ctrl_c_while_a_command_imports(tmp_path: Path, project_root: Path) -> None:
    (tmp_path / "apache_beam.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    command = [sys.executable, "-m", "pipelines.build_lists"]
    found = subprocess.run(
        command, cwd=project_root, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == -signal.SIGINT
    assert found.stderr == "\ninterrupted; nothing was published, run the same command again\n"


def test_filesystems_that_need_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CvrError, match=r"--input=s3://logs: this filesystem needs the extra 'aws': pip install 'cvr\[aws\]'"):
        check_filesystem("s3://logs", "input")
    monkeypatch.setattr("pipelines.write.FileSystems.get_filesystem", _raise_value_error)
    with pytest.raises(CvrError, match=r"--output=gs://lists: this filesystem needs the extra 'gcs'"):
        check_filesystem("gs://lists", "output")
    with pytest.raises(CvrError, match="--output=made-up://lists: no such filesystem; the extras"):
        check_filesystem("made-up://lists", "output")


def _raise_value_error(path: str) -> None:
    raise ValueError("no such filesystem")
