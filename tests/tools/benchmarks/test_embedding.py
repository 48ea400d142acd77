"""The embedding benchmark: what its steps do, and its goals and tables from hand-made timings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from cvr.errors import CvrError
from tools.benchmarks import embedding, embedding_report
from tools.benchmarks.embedding_steps import OPTIMIZERS, Plan, Timing, draw_ids, make_step, measure
from tools.benchmarks.summary import Spread


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_move_the_rows_that_they_read_and_no_others(name: str) -> None:
    table = tf.Variable(tf.ones([10, 2]))
    step = make_step(name, table)
    for _ in range(2):
        step(tf.constant([3, 3, 7], tf.int64))
    moved = np.flatnonzero((table.numpy() != 1).any(axis=1))
    assert moved.tolist() == ([] if name == "lookup" else [3, 7])


def test_draws_by_their_law() -> None:
    source = np.random.default_rng(0)
    uniform, zipf = (draw_ids(source, draw, 1000, 50_000) for draw in ("uniform", "zipf"))
    assert uniform.min() >= 0 and uniform.max() < 1000 and zipf.min() >= 0 and zipf.max() < 1000
    counts = np.sort(np.bincount(zipf))[::-1]
    assert counts[0] / counts[1] == pytest.approx(2**1.2, rel=0.1)
    assert np.bincount(uniform).max() < 100


def test_every_cell_is_measured_in_every_turn() -> None:
    said: list[str] = []
    found = measure(["lookup", "lazy_adam"], [50, 60], ["uniform"], Plan(ids=8, dim=2, repeats=2, steps=2, warm=1), said.append)
    assert [(t.optimizer, t.rows) for t in found] == [("lookup", 50), ("lazy_adam", 50), ("lookup", 60), ("lazy_adam", 60)]
    assert all(0 < t.step_ms.least <= t.step_ms.median <= t.step_ms.most for t in found)
    assert len(said) == 2


def _timing(name: str, rows: int, ms: float, draw: str = "zipf") -> Timing:
    return Timing(name, rows, draw, Spread(ms, ms, ms), 0.0)


def test_goals_by_hand() -> None:
    timings = [_timing("lazy_adam", 10**5, 5.0), _timing("lazy_adam", 10**7, 5.5), _timing("keras_adam", 10**7, 100.0)]
    goals = {goal.name: goal for goal in embedding_report.goals(timings)}
    growth = goals["lazy_adam, zipf ids: a step at 1e7 rows against 1e5"]
    faster = goals["lazy_adam, zipf ids: faster than Keras Adam at 1e7 rows"]
    assert growth.reached == pytest.approx(1.1) and growth.met is True
    assert faster.reached == pytest.approx(100 / 5.5) and faster.met is False
    assert goals["lazy_adam, uniform ids: a step at 1e7 rows against 1e5"].met is None


def test_table_by_hand() -> None:
    timings = [_timing("keras_adam", 10**6, 100.0), _timing("lazy_adam", 10**6, 5.0)]
    assert embedding_report.result_rows(timings)[0] == ("lazy_adam", "zipf", "1e6", "5.00 (5.00-5.00)", "", "0.05", "0")


def test_sizes_are_numbers() -> None:
    assert embedding.sizes(["1e5", "200"]) == [100_000, 200]
    for wrong in (["many"], ["0"], ["5", "5"], ["inf"]):
        with pytest.raises(CvrError, match="--rows"):
            embedding.sizes(wrong)
    with pytest.raises(CvrError, match="there are lookup"):
        embedding.check("optimizers", ["sgd"], OPTIMIZERS)


def test_the_command_writes_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("intra", "inter"):  # threads cannot change in a process that has begun
        monkeypatch.setattr(tf.config.threading, f"set_{kind}_op_parallelism_threads", lambda count: None)
    path, known = tmp_path / "e.json", set(flags.FLAGS)
    embedding.define_flags()
    try:
        small = ["--rows=20", "--optimizers=lookup,lazy_adam", "--ids=4", "--dim=2", "--repeats=1", "--steps=1"]
        embedding.parse_flags(["embedding", f"--json={path}", *small])
        embedding.main(["embedding"])
        first = capsys.readouterr().out
        embedding.parse_flags(["embedding", f"--read={path}"])
        embedding.main(["embedding"])
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    assert capsys.readouterr().out == first
    assert len(json.loads(path.read_text())["results"]) == 4
    path.write_text("{}")
    with pytest.raises(CvrError, match="no report"):
        embedding_report.read(path)
