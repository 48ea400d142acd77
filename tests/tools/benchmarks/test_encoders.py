"""The benchmark of encoders: what its steps compute, what it leaves out, and its goals and tables from hand-made timings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from cvr import encoders as available
from cvr.errors import CvrError
from tools.benchmarks import encoders, encoders_report
from tools.benchmarks.encoders_steps import PASSES, Cell, Plan, Program, Timing, cells, make_inputs, measure

SMALL = Plan(lists=2, dim=4, repeats=2, steps=1, seconds=0.0)


def test_cells_have_every_list_length_only_where_items_are_seen() -> None:
    found = cells(["mean", "eta"], [1, 50], [10, 20])
    assert [(c.encoder, c.kind, c.items, c.events) for c in found] == [
        *(("mean", kind, 1, events) for kind in PASSES for events in (10, 20)),
        *(("eta", kind, items, events) for kind in PASSES for items in (1, 50) for events in (10, 20)),
    ]
    assert {cell.encoder for cell in cells(available.names(), [1], [5])} == set(available.names())


def test_a_step_computes_what_the_encoder_does_and_its_gradients() -> None:
    forward, training = (Program(Cell("target_attention", kind, 3, 5), SMALL) for kind in PASSES)
    given = make_inputs(True, 2, 3, 5, SMALL)
    layer = forward.layer
    expected = layer(given["candidates"], given["events"], given["real"], given["match"], given["list_index"])
    np.testing.assert_allclose(forward.step(), expected, rtol=1e-5, atol=1e-6)
    total, gradients = training.step()
    assert float(total) > 0
    assert len(gradients) == 2 + len(training.layer.trainable_variables)  # the events and the candidates; `items` and `age` are not read
    assert training.bytes > 2 * 3 * 5 * 4 * 4  # it keeps at least the gathered events


def test_what_would_not_fit_is_left_out_and_says_so() -> None:
    said: list[str] = []
    tight = Plan(lists=2, dim=4, repeats=2, steps=1, seconds=0.0, memory_gib=2e-6)
    found = measure([Cell("mean", "forward", 1, 5), Cell("target_attention", "forward", 50, 5)], tight, said.append)
    assert [(len(t.ms), bool(t.skipped)) for t in found] == [(2, False), (0, True)]
    assert found[1].skipped.endswith("GiB, more than --memory_gib=2e-06") and len(said) == 2


def _timing(encoder: str, items: int, events: int, ms: float, kind: str = "forward") -> Timing:
    return Timing(encoder, kind, items, events, 0.0, [ms] * 3)


def test_goals_by_hand() -> None:
    timings = [_timing("eta", 50, 200, 2.0), _timing("eta", 50, 10_000, 8.0), _timing("target_attention", 50, 200, 1.0)]
    timings += [_timing("target_attention", 50, 10_000, 20.0), _timing("lightsuan", 1, 200, 3.0), _timing("lightsuan", 200, 200, 90.0)]
    goals = encoders_report.goals(timings)
    reached = [(0.2, True), (0.4, True), (0.15, False)]
    assert [(goal.reached, goal.met) for goal in goals[:3]] == [(pytest.approx(value), met) for value, met in reached]
    assert [goal.met for goal in goals[3:]] == [None] * 3


def test_tables_by_hand() -> None:
    timings = [_timing("eta", 50, 200, 2.0), _timing("target_attention", 50, 200, 8.0), Timing("eta", "forward", 50, 400, 9.0, [], "why")]
    assert encoders_report.result_rows(timings, [200, 400])[0] == ("eta", "forward", "50", "2.00", "not run")
    assert encoders_report.result_rows(timings, [200, 400], ratios=True)[0] == ("eta", "forward", "50", "0.25", "")
    assert encoders_report.skipped_rows(timings) == [("eta", "forward", "50", "400", "why")]


def test_the_command_writes_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("intra", "inter"):  # threads cannot change in a process that has begun
        monkeypatch.setattr(tf.config.threading, f"set_{kind}_op_parallelism_threads", lambda count: None)
    path, known = tmp_path / "e.json", set(flags.FLAGS)
    encoders.define_flags()
    try:
        small = ["--encoders=mean,eta", "--items=2", "--events=5", "--dim=2", "--repeats=1", "--steps=1"]
        encoders.parse_flags(["encoders", f"--json={path}", *small])
        encoders.main(["encoders"])
        first = capsys.readouterr().out
        encoders.parse_flags(["encoders", f"--read={path}"])
        encoders.main(["encoders"])
        assert capsys.readouterr().out == first
        encoders.parse_flags(["encoders", "--read=", "--events=1e5"])
        with pytest.raises(CvrError, match="--events=1e5: a history has at most 10,000 events"):
            encoders.main(["encoders"])
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    assert len(json.loads(path.read_text())["cells"]) == 4
