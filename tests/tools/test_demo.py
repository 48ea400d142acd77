"""The demo from logs to report on a tiny synthetic log, in subprocesses as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAIN_FLAGS = "--epochs=1\n--batch_items=1024\n--experts=2\n--expert_width=8\n--tower_width=8\n"


def _demo(folder: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.flags").write_text(TRAIN_FLAGS)
    command = [sys.executable, "-m", "tools.demo", f"--runs={folder}", "--run=tiny", *extra]
    command += [f"--train_flagfile={folder}/train.flags", "--validation_from=2026-01-03", "--test_from=2026-01-04"]
    command += ["--make_logs=--days=7,--searches_per_day=60,--customers=100,--items=80,--queries=20"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    answer = _demo(folder)
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]
    return folder


def test_the_summary_holds_all_figures(run: Path) -> None:
    summary = json.loads((run / "tiny" / "summary.json").read_text())
    assert summary["source"] == "synthetic" and summary["primary_task"] == "purchase"
    assert summary["lists"]["train"] > 0 and summary["lists"]["eval"] > 0
    assert {"click", "cart", "purchase"} == set(summary["tasks"])
    purchase = summary["tasks"]["purchase"]
    assert purchase["map_ci"][0] <= purchase["map"] <= purchase["map_ci"][1]
    assert {"display_order", "popularity"} <= set(purchase["baselines"])
    assert purchase["baselines"]["display_order"]["map"] < summary["bayes_map"] <= 1
    assert summary["parity_largest_difference"] <= 1e-5
    assert summary["flops_per_item"] > 0 and summary["parameters"] > 0 and summary["items_per_second_train"] > 0
    assert {"make_logs", "build_lists", "backfill", "validate", "train", "evaluate", "export", "parity", "serve"} <= set(summary["seconds"])
    assert summary["model_version"] == 1


def test_the_report_stands_on_its_own(run: Path) -> None:
    html = (run / "tiny" / "report.html").read_text()
    assert html.count("<svg") == 5
    assert "Bayes ceiling" in html and "Label delays" in html
    assert "<script" not in html and "<link" not in html and 'src="' not in html


def test_a_second_call_keeps_all_stages_and_answers_again(run: Path) -> None:
    made = (run / "tiny" / "model" / "run.json").stat().st_mtime_ns
    answer = _demo(run)
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert answer.stdout.count(": kept, ") == 8
    assert (run / "tiny" / "model" / "run.json").stat().st_mtime_ns == made


def test_other_flags_on_the_same_run_are_refused(run: Path) -> None:
    answer = _demo(run, "--spec=configs/features/trivago2019.yaml")
    assert answer.returncode == 1
    assert "error: " in answer.stderr and "--force" in answer.stderr and "Traceback" not in answer.stderr


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    answer = _demo(tmp_path, "--run=../elsewhere")
    assert answer.returncode == 1 and "--run=../elsewhere" in answer.stderr
