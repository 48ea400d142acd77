"""`tools.plan` on simulated studies with a planted best axis: what it recommends, refuses and writes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cvr.errors import CvrError
from tests.commands import run_main
from tests.tools.planning.planted import row, rows_of
from tools import plan
from tools.tracking.table import FACTORIAL, ResultRow, write_results

SLOPES = {"cross_width": 0.008, "deep_width": 0.001, "tokens": 0.004, "days": 0.006}
"""Planted gain of a doubling; all cost alike, so cross_width is the best axis."""


def _study(source: int, noise: float = 0.0015) -> list[ResultRow]:
    drawn, rows = np.random.default_rng(source), []
    for axis, slope in SLOPES.items():
        rows += rows_of(axis, [1, 2, 4, 8], lambda x, slope=slope: 0.6 + slope * np.log2(x), noise=noise, source=drawn)
    for raised, value in {"": 0.0, "cross_width": 0.008, "days": 0.006, "cross_width+days": 0.004}.items():
        for seed in range(3):
            one = row(FACTORIAL, 1 + len(raised.split("+")) if raised else 1, seed, 0.6 + value + noise * drawn.standard_normal())
            rows.append(dataclasses.replace(one, raised=raised, arm=raised or "base"))
    return rows


def _plan(folder: Path, *arguments: str, name: str = "plan") -> dict:
    assert run_main(plan, f"--results={folder}", f"--output={folder / name}", "--replicates=400", *arguments) == 0
    return json.loads((folder / name / "plan.json").read_text())


def test_the_planted_best_axis_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.figures, "write_curves", lambda *_: None)
    monkeypatch.setattr(plan.figures, "write_fronts", lambda *_: None)
    monkeypatch.setattr(plan.figures, "write_steps", lambda *_: None)
    found = []
    for source in range(10):
        folder = tmp_path / str(source)
        write_results(folder / "study" / "results.parquet", _study(source))
        found.append(_plan(folder, "--replicates=100")["recommended"])
    assert found.count("double cross_width (1 to 2)") >= 9


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_results(tmp_path / "results.parquet", _study(0))
    return tmp_path


def test_what_a_plan_holds(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _plan(study, "--factors=2,32")
    text = (study / "plan" / "plan.md").read_text()
    assert "**double cross_width (1 to 2): +1." in text and text in capsys.readouterr().out
    assert {path.name for path in (study / "plan").glob("*.png")} == {"curves.png", "pareto.png", "steps.png"}
    by_name = {step["name"]: step for step in found["steps"]}
    assert not by_name["32 times days (1 to 32)"]["recommended"] and by_name["32 times days (1 to 32)"]["gain"] is None
    (pair,) = found["additivity"]
    assert pair["factors"] == ["cross_width", "days"] and pair["verdict"] == "less than additive"
    assert [axis["name"] for axis in found["axes"]] == list(SLOPES)
    assert found["front"]["flops_per_item"][-1] == "cross_width=8"


def test_budgets_move_the_recommendation(study: Path) -> None:
    free = write_results(study / "free.parquet", [r for r in _study(0) if r.axis != "days"] + _days_without_flops())
    arguments = (f"--results={free}", f"--output={study / 'free'}", "--budget_flops_per_item=1.5e6", "--replicates=400")
    assert run_main(plan, *arguments) == 0
    assert json.loads((study / "free" / "plan.json").read_text())["recommended"] == "double days (1 to 2)"
    nothing = _plan(study, "--budget_training=99")
    assert nothing["recommended"] is None and "No step can be recommended" in (study / "plan" / "plan.md").read_text()


def _days_without_flops() -> list[ResultRow]:
    return rows_of("days", [1, 2, 4, 8], lambda x: 0.6 + 0.006 * np.log2(x), noise=0.001, flops=0.0)


def test_a_latency_limit_is_held_against_a_simulated_server(study: Path) -> None:
    curve = study / "curve.json"
    curve.write_text('{"batch": {"rows": [32, 512], "ms": [10, 40]}}')  # one server of 10 ms: P99 at 0.1/s is about 10 ms, and twice that
    fast, slow = (
        _plan(study, f"--serving_curve={curve}", "--rate=0.1", "--num_simulated=500", f"--p99_ms={limit}", name=f"p{limit}")
        for limit in (40, 15)
    )
    assert fast["recommended"] == "double cross_width (1 to 2)" and slow["recommended"] is None
    now, then = (fast["steps"][0][when]["p99_ms"] for when in ("now", "then"))
    assert 10 <= now < 15 and 20 <= then < 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--p99_ms=50"], "needs --serving_curve"),
        (["--task=click"], "there are purchase/map"),
        (["--factors=2,1"], "greater than 1"),
        (["--factors=two"], "could not convert"),
    ],
)
def test_wrong_flags_are_refused(study: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(CvrError, match=message):
        _plan(study, *arguments)


def test_tables_that_cannot_be_planned_from_are_refused(study: Path) -> None:
    with pytest.raises(CvrError, match="no results.parquet in this folder"):
        run_main(plan, f"--results={study / 'nothing'}/", f"--output={study / 'a'}") if (study / "nothing").mkdir() is None else None
    with pytest.raises(CvrError, match="is in two tables"):
        run_main(plan, f"--results={study},{study}", f"--output={study / 'a'}")
    write_results(study / "factorial" / "f.parquet", [r for r in _study(0) if r.axis == FACTORIAL])
    with pytest.raises(CvrError, match="only factorials"):
        run_main(plan, f"--results={study / 'factorial' / 'f.parquet'}", f"--output={study / 'a'}")
    _plan(study)
    with pytest.raises(CvrError, match="already holds a plan"):
        _plan(study)
