"""`tools.track` on made-up runs and evaluations: the table, differences, and what goes to MLflow."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cvr.errors import CvrError
from cvr.runs import finish_run, start_run
from tests.commands import run_main
from tools import track
from tools.tracking import mlflow_export

LISTS = 50


def _run(folder: Path, seed: int, flags: dict[str, Any], spec: str = "features: []\n") -> Path:
    flags = {"seed": seed, "train_splits": ["train"], **flags}
    start_run(folder, spec, {"flags": flags, "versions": {"numpy": "2.0"}, "data": "d1", "spec_fingerprint": "s1"})
    finish_run(folder, {"checkpoint": "checkpoints/ckpt-9", "steps": 9, "flops_per_item": 100, "validation": {"purchase": 0.4}})
    return folder


def _evaluation(folder: Path, run: str, values: np.ndarray, checkpoint: str = "checkpoints/ckpt-9") -> Path:
    folder.mkdir(parents=True)
    about = {"run": run, "checkpoint": checkpoint, "split": "test", "lists": LISTS, "items": 99, "data": "d2"}
    metrics = {"map": float(values.mean()), "map_ci": [0.1, 0.9], "mrr": None, "baselines": {"display_order": {"map": 0.3}}}
    (folder / "summary.json").write_text(json.dumps({**about, "tasks": {"purchase": metrics}}))
    names = [f"q{place}" for place in range(LISTS)]
    frame = pd.DataFrame({"search_id": names, "time": 0, "items": 2, "positives": 1, "task": "purchase", "map": values})
    frame.to_parquet(folder / "per_list.parquet")
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two runs and their evaluations, the second better by 0.02 on every list but the first, where it is by 0.07."""
    values = np.linspace(0.2, 0.6, LISTS)
    better = values + 0.02 + 0.05 * (np.arange(LISTS) == 0)
    for name, seed, found, width in (("a", 0, values, 64), ("b", 1, better, None)):
        _run(tmp_path / "study" / name, seed, {"cross_width": width}, spec=f"features: [{name}]\n")
        _evaluation(tmp_path / "study" / f"{name}_eval", f"study/{name}", found)
    (tmp_path / "study" / "report").mkdir()
    (tmp_path / "study" / "report" / "summary.json").write_text('{"pages": 3}')
    return tmp_path


def _track(*arguments: object) -> None:
    given = [str(argument) for argument in arguments]

    class Command:
        __name__ = "track"
        define_flags = staticmethod(track.define_flags)
        main = staticmethod(lambda _: track.main(["track", *(one for one in given if not one.startswith("--"))]))

    run_main(Command, *(one for one in given if one.startswith("--")))  # type: ignore[arg-type]


def test_a_row_per_run_and_evaluation(work: Path) -> None:
    _track(f"--runs={work}", f"--output={work / 'runs.parquet'}")
    frame = pd.read_parquet(work / "runs.parquet").set_index("folder")
    assert [Path(name).name for name in frame.index] == ["a", "a_eval", "b", "b_eval"]
    assert list(frame["kind"]) == ["run", "evaluation"] * 2 and list(frame["seed"]) == [0, 0, 1, 1]
    assert list(frame["flags.cross_width"].fillna(-1)) == [64, 64, -1, -1] and frame["flags.train_splits"].iloc[0] == '["train"]'
    row = frame.iloc[3]
    assert row["metric.purchase.map"] == pytest.approx(0.421)
    assert (row["metric.purchase.map_low"], row["metric.purchase.map_high"]) == (0.1, 0.9)
    assert row["metric.purchase.baselines.display_order.map"] == 0.3 and row["run_found"] and row["run"].endswith("study/b")
    assert (row["data"], row["evaluated.data"], row["evaluated.split"], row["cost.flops_per_item"]) == ("d1", "d2", "test", 100)
    assert frame["machine.cpus"].iloc[0] >= 1 and "commit" in frame and frame["created"].notna().all()
    rows = json.loads((work / "runs.json").read_text())["rows"]
    assert len(rows) == 4 and rows[3]["metric.purchase.mrr"] is None


def test_folders_that_were_moved_together_still_belong_together(work: Path) -> None:
    shutil.move(work / "study", work / "archive")
    _track(f"--runs={work / 'archive'}", f"--output={work / 'runs.parquet'}")
    assert pd.read_parquet(work / "runs.parquet")["run_found"].dropna().all()


def test_a_run_that_was_trained_anew_is_not_the_one_evaluated(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = work / "study" / "a" / "run.json"
    path.write_text(path.read_text().replace("ckpt-9", "ckpt-12"))
    _track(f"--runs={work}", f"--output={work / 'runs.parquet'}")
    assert "a_eval: its run study/a is not in --runs, or has another checkpoint now" in capsys.readouterr().out


def test_what_differs_between_two_evaluations(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _track("--diff", work / "study" / "a_eval", work / "study" / "b_eval")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "flags.cross_width  64 -> None" in lines and "-features: [a]" in lines and "+features: [b]" in lines
    assert any(line.startswith("metric.purchase.map ") and line.endswith("0.4 -> 0.421") for line in lines)
    assert not any("created" in line or "map_low" in line for line in lines)
    (paired,) = (line for line in lines if "B less A" in line)
    assert paired.startswith("purchase, map, B less A: +0.02100 [+0.0") and "on 50 lists" in paired


def test_what_differs_between_two_runs(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _track("--diff", work / "study" / "a", work / "study" / "b")
    out = capsys.readouterr().out
    assert "seed" in out and "results that differ:\n  none" in out and "give two evaluation folders" in out
    _track("--diff", work / "study" / "a", work / "study" / "a")
    assert "settings that differ:\n  none\nresults that differ:\n  none\nfeature specs: the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diff", "study/a"], "takes two folders"),
        (["--diff", "study/a", "study/b_eval"], "study/a is of kind run, study/b_eval of kind evaluation"),
        (["--diff", "study/a", "study"], "no run"),
        (["--runs=study"], "give --runs"),
        (["--runs=study/report", "--output=r.parquet"], "no run .* and no evaluation"),
        (["--runs=nowhere", "--output=r.parquet"], "is no folder"),
        (["--runs=study", "--output=r.csv"], "ends in .parquet"),
    ],
)
def test_wrong_use_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(work)
    with pytest.raises(CvrError, match=message):
        _track(*arguments)


class _Mlflow(types.ModuleType):
    """Keeps what is logged, as MLflow's module does."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: list[tuple[str, Any]] = []
        self.runs: list[dict[str, Any]] = []

    def set_tracking_uri(self, uri: str) -> None:
        self.calls.append(("uri", uri))

    def set_experiment(self, name: str) -> None:
        self.calls.append(("experiment", name))

    def search_runs(self, experiment_names: list[str], filter_string: str, output_format: str) -> list[dict[str, Any]]:
        assert output_format == "list" and experiment_names == ["cvr"]
        return [run for run in self.runs if filter_string == f"tags.`cvr.key` = '{run['cvr.key']}'"]

    def start_run(self, run_name: str) -> _Mlflow:
        self.runs.append({"name": run_name})
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def _log(self, values: dict[str, Any]) -> None:
        assert len(values) <= 100 and not set(values) & set(self.runs[-1])
        self.runs[-1] |= values

    set_tags = log_params = log_metrics = _log


def test_rows_go_to_mlflow_once(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake = _Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    _track(f"--runs={work}", "--mlflow=http://localhost:1")
    assert fake.calls == [("uri", "http://localhost:1"), ("experiment", "cvr")] and len(fake.runs) == 4
    last = fake.runs[3]
    assert last["metric.purchase.map"] == pytest.approx(0.421) and last["flags.seed"] == "1" and last["cvr.kind"] == "evaluation"
    _track(f"--runs={work}", "--mlflow=http://localhost:1")
    assert len(fake.runs) == 4 and "0 rows logged" in capsys.readouterr().out


def test_without_mlflow_the_error_says_what_to_install(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(CvrError, match=r"pip install 'cvr\[mlflow\]'"):
        _track(f"--runs={work}", "--mlflow=http://localhost:1")


def test_names_and_values_are_such_as_mlflow_takes() -> None:
    row = {"kind": "run", "folder": "f", "metric.a@10": 0.5, "cost.x": float("inf"), "flags.b": ["c"] * 300, "flags.d": None}
    numbers, settings = mlflow_export.split(row)
    assert numbers == {"metric.a_10": 0.5} and list(settings) == ["flags.b"] and len(settings["flags.b"]) == 500
