"""Measuring a process: CPU seconds and memory include its children's, and nothing of the process that measures."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam import typehints
from apache_beam.runners.portability.fn_api_runner import execution

from cvr.errors import CvrError
from tools.benchmarks.child import count_shuffle, peak_bytes
from tools.benchmarks.measure import run

MIB = 2**20


def test_children_count_and_the_measuring_process_does_not(tmp_path: Path) -> None:
    ballast = bytearray(300 * MIB)  # a child that is started from here inherits this as its own peak until it runs its program
    found = run("tests.tools.benchmarks.busy", ["100", "0.6"], 1, tmp_path)
    assert len(ballast) == 300 * MIB
    assert 1.2 <= found.main_cpu <= found.cpu  # 0.6 s each
    assert 200 * MIB < found.peak < 290 * MIB  # 100 MiB each, and two small interpreters
    assert found.command == "python -m tests.tools.benchmarks.busy 100 0.6"
    assert found.shuffle == found.side == 0


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match=r"busy 1 -1 ended with exit code 1; it said:\nno -1.0 seconds"):
        run("tests.tools.benchmarks.busy", ["1", "-1"], 1, tmp_path)


def test_peak_is_the_high_water_mark() -> None:
    assert peak_bytes("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t   512 kB\nVmRSS:\t   100 kB\n") == 512 * 1024


def test_bytes_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three groups of 1,000 bytes and one side input of 500: a few bytes more for keys, lengths and Beam's own windows."""
    for owner in (execution.GroupingBuffer, execution.WindowGroupingBuffer):
        monkeypatch.setattr(owner, "append", owner.append)  # put back afterwards
    counts = count_shuffle()
    with beam.Pipeline() as pipeline:
        side = pipeline | "Side" >> beam.Create([b"s" * 500])
        rows = pipeline | "Rows" >> beam.Create([1, 2, 3])
        pairs = rows | beam.Map(lambda n: (n, b"x" * 1_000)).with_output_types(typehints.KV[int, bytes])
        pairs | beam.GroupByKey() | beam.Map(lambda group, extra: len(extra), beam.pvalue.AsSingleton(side))
    assert 3_000 <= counts["shuffle"] < 3_200
    assert 500 <= counts["side"] < 540
