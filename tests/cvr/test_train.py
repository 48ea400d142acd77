"""Training and evaluating from the command line on tiny lists, and the errors that users meet."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags

from cvr import train
from cvr.layers import sparse_per_token_ffn
from cvr.manifest import load_manifest, publish_json
from cvr.runs import load_ranker
from tests.cvr.jobs import evaluate_job, message, small_model, train_job
from tests.support import LEAN

MODEL = small_model("--epochs=1", "--keep_best")


@pytest.fixture(scope="module")
def run(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    assert train_job(f"--lists={lists}", f"--output={folder}", *MODEL) == 0
    return folder


@pytest.fixture(scope="module")
def evaluation(run: Path, lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "test"
    assert evaluate_job(f"--run={run}", f"--lists={lists}", f"--output={folder}", "--bootstrap=50") == 0
    return folder


def test_a_run_says_what_it_was_made_of(run: Path, lists: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    manifest = load_manifest(lists)
    assert info["status"] == "finished"
    assert info["data"] == manifest.data_fingerprint() and info["lists"] == 40
    assert info["tasks"] == ["purchase", "click"] and info["primary_task"] == "purchase"
    assert info["flags"]["learning_rate"] == 0.01 and "output" not in info["flags"]
    assert info["model"]["backbone"] == "dcnv2" and info["model"]["backbone_config"]["deep_width"] == 8
    assert "tensorflow" in info["versions"]
    assert info["checkpoint"].startswith("checkpoints/best/")
    assert (run / f"{info['checkpoint']}.index").is_file()
    assert set(info["validation"]) == {"purchase", "click"}
    assert info["parameters"] > info["dense_parameters"] > 0
    assert (run / "spec.yaml").read_text() == LEAN


def test_history_has_finite_losses_and_a_validation(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    losses = [row["loss"]["purchase"] for row in rows if row["kind"] == "train"]
    assert len(losses) >= 2 and np.isfinite(losses).all()
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1]


def test_statistics_of_the_training_split_are_in_the_model(run: Path, lists: Path) -> None:
    ranker, _ = load_ranker(run)
    layer = ranker.extraction.numericals["item"]
    assert layer.names == ("price", "touched")
    moments = load_manifest(lists).split("train").statistics["price"]
    price, touched = layer.statistics.numpy().T
    np.testing.assert_allclose(price, [*moments.mean_std(), *moments.mean_std(logarithmic=True)], rtol=1e-5)
    assert touched[0] > 0 and touched[1] > 0


def test_evaluation_writes_summary_and_tables(evaluation: Path, run: Path, lists: Path) -> None:
    summary = json.loads((evaluation / "summary.json").read_text())
    split = load_manifest(lists).split("test")
    assert (summary["lists"], summary["items"], summary["split"]) == (15, split.items, "test")
    frame = pd.read_parquet(evaluation / "per_list.parquet")
    scores = pd.read_parquet(evaluation / "scores.parquet")
    assert len(frame) == 2 * 15 and len(scores) == split.items
    for task in ("purchase", "click"):
        own = frame[frame.task == task]
        assert summary["tasks"][task]["map"] == pytest.approx(own["map"].mean())
        assert (
            summary["tasks"][task]["positives"]
            == own.positives.sum()
            == scores[f"label_{task}"].sum()
            == split.labels[task]
        )
        low, high = summary["tasks"][task]["map_ci"]
        assert low <= summary["tasks"][task]["map"] <= high
        baselines = summary["tasks"][task]["baselines"]
        assert baselines["display_order"]["map"] == pytest.approx(own["map_display_order"].mean())
        assert baselines["popularity"]["map"] == pytest.approx(own["map_popularity"].mean())
    assert np.isfinite(scores.score_purchase).all()
    judged = summary["tasks"]["click"]["calibration"]
    assert "calibration" not in summary and "after" not in judged and judged["before"]["bins"] > 5


# What users meet ---------------------------------------------------------------------------------------------------------


def test_outputs_are_not_overwritten(run: Path, lists: Path, evaluation: Path) -> None:
    assert "already holds a finished run" in message(train_job, f"--lists={lists}", f"--output={run}", *MODEL)
    text = message(evaluate_job, f"--run={run}", f"--lists={lists}", f"--output={evaluation}")
    assert "already holds an evaluation; choose another folder" in text


def test_lists_that_are_not_there(run: Path, tmp_path: Path) -> None:
    text = message(train_job, f"--lists={tmp_path}", f"--output={tmp_path / 'm'}", *MODEL)
    assert "no manifest.json in" in text and "pipelines.build_lists" in text
    assert not (tmp_path / "m").exists()


def test_a_spec_that_stores_other_features(lists: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(LEAN.replace("item.price", "item.cost"))
    text = message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", f"--spec={other}", *MODEL)
    assert "stores other features" in text and str(other) in text


def test_a_run_of_another_spec_cannot_be_evaluated(run: Path, lists: Path, tmp_path: Path) -> None:
    manifest = load_manifest(lists)
    text = LEAN.replace("item.price", "item.cost")
    content = {**manifest.model_dump(mode="json"), "spec_text": text, "spec_fingerprint": "0" * 16}
    publish_json(tmp_path / "manifest.json", content)
    (tmp_path / "data").symlink_to(lists / "data")
    assert "another feature spec" in message(
        evaluate_job, f"--run={run}", f"--lists={tmp_path}", f"--output={tmp_path / 'e'}"
    )


def test_a_task_without_positives(lists: Path, tmp_path: Path) -> None:
    content = load_manifest(lists).model_dump(mode="json")
    content["splits"]["train"]["labels"]["click"] = 0
    publish_json(tmp_path / "manifest.json", content)
    text = message(train_job, f"--lists={tmp_path}", f"--output={tmp_path / 'm'}", *MODEL)
    assert "task 'click' has no positive label in the splits ['train']" in text


def test_a_split_that_is_empty(run: Path, lists: Path, tmp_path: Path) -> None:
    content = load_manifest(lists).model_dump(mode="json")
    content["splits"]["validation"] = {}
    publish_json(tmp_path / "manifest.json", content)
    (tmp_path / "data").symlink_to(lists / "data")
    for text in (
        message(train_job, f"--lists={tmp_path}", f"--output={tmp_path / 'm'}", *MODEL),
        message(
            evaluate_job, f"--run={run}", f"--lists={tmp_path}", f"--output={tmp_path / 'e'}", "--split=validation"
        ),
    ):
        assert "split 'validation' holds no list; this folder has" in text


def test_a_budget_below_the_longest_list(lists: Path, tmp_path: Path) -> None:
    text = message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", *MODEL, "--batch_items=3")
    assert "--batch_items=3 is smaller than the longest list (6 items)" in text


def test_a_factor_of_another_backbone(lists: Path, tmp_path: Path) -> None:
    text = message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", *MODEL, "--parallel_blocks=3")
    assert "--parallel_blocks does not belong to --backbone=dcnv2" in text


def test_a_backbone_that_does_not_exist(lists: Path, tmp_path: Path) -> None:
    with pytest.raises(flags.IllegalFlagValueError, match=r"--backbone=resnet: value should be one of <.*dcnv2"):
        train_job(f"--lists={lists}", f"--output={tmp_path / 'm'}", "--backbone=resnet")


def test_dry_run_prints_the_costs_and_writes_nothing(
    lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_job(f"--lists={lists}", f"--output={tmp_path / 'm'}", *MODEL, "--dry_run") == 0
    said = capsys.readouterr().out
    assert "FLOPs per item" in said and "of 24 items in" in said and "lists; loss purchase " in said
    assert not (tmp_path / "m").exists()


def test_a_disk_that_is_full(lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only a checkpoint (tests/cvr/test_checkpoints.py): a row of the history finds no room either."""

    def full(*rest: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(train, "train", full)
    text = message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", *MODEL)
    assert text == f"cannot write to --output={tmp_path / 'm'}: No space left on device; make room and run the same command again"


def test_penalties_of_a_backbone_are_trained_and_its_state_is_kept(lists: Path, tmp_path: Path) -> None:
    """Sparse experts of a RankMixer of size S: the weight of their penalty has moved, and comes back with the checkpoint."""
    factors = ("--backbone=rankmixer", "--variant=S", "--layers=1", "--ffn_experts=2")
    flags_of_a_run = (f"--lists={lists}", f"--output={tmp_path / 'm'}", "--batch_items=48", "--epochs=1", *factors)
    assert train_job(*flags_of_a_run) == 0
    ranker, run = load_ranker(tmp_path / "m")
    assert run.config.backbone_config["model_width"] == 16 and run.config.backbone_config["layers"] == 1
    experts = ranker.backbone._blocks[0].ffn
    assert float(experts.penalty) != sparse_per_token_ffn.FIRST and float(experts.share) != 0.5
    assert int(ranker.backbone._steps) == run.info["steps"]


def test_an_unknown_variant(lists: Path, tmp_path: Path) -> None:
    text = message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", "--variant=XS")
    assert "--variant=XS: --backbone=masknet comes in S, M, L, XL" in text


def test_the_command_prints_one_line_instead_of_a_traceback(run: Path, lists: Path) -> None:
    command = [sys.executable, "-m", "cvr.train", f"--lists={lists}", f"--output={run}", *MODEL]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 1
    assert "error: --output=" in answer.stderr and "Traceback" not in answer.stderr
