"""Losses with a level and calibration from the command line: train, calibrate, evaluate, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from cvr import preparation
from cvr.calibrate import check_split
from cvr.calibration import load_calibration
from cvr.errors import CvrError
from cvr.links import condition_of, conditioned
from cvr.manifest import load_manifest, publish_json
from cvr.runs import load_ranker, load_run
from cvr.scoring import ScoredLists, score_split
from tests.cvr.jobs import calibrate_job, evaluate_job, message, small_model, train_flags_of, train_job
from tests.support import LEAN, random_columns, tiny_spec, write_lists

MODEL = small_model("--loss=regression_compatible", "--listwise_share=0.3")


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists whose cheap items are bought or clicked; they were built as by `--drop_unconverted=train`."""
    folder, spec = tmp_path_factory.mktemp("data") / "lists", tiny_spec(LEAN)
    splits = {}
    for name, seeds in {"train": [1, 2], "validation": [3], "test": [4]}.items():
        splits[name] = [random_columns(spec, 40, seed) for seed in seeds]
        for part in splits[name]:
            chance = np.random.default_rng(int(part.time[0]) % 1000 + len(part.item)).random((len(part.item), 2))
            likely = np.nan_to_num(part.item_num[:, :1], nan=9.0, neginf=9.0) < 3.0
            part.labels[:] = chance < np.where(likely, 0.6, 0.1)
    manifest = write_lists(folder, splits, LEAN)
    manifest.flags["drop_unconverted"] = "train"
    for place, name in enumerate(("train", "validation", "test")):
        manifest.splits[name].first_time, manifest.splits[name].last_time = 100 * place, 100 * place + 50
    publish_json(folder / "manifest.json", manifest)
    return folder


@pytest.fixture(scope="module")
def run(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    assert train_job(f"--lists={lists}", f"--output={folder}", *MODEL) == 0
    return folder


@pytest.fixture
def fresh(run: Path, tmp_path: Path) -> Path:
    """The run in a folder of this test, without a calibration."""
    return Path(shutil.copytree(run, tmp_path / "model", ignore=shutil.ignore_patterns("calibration.json")))


def test_training_with_a_level(run: Path) -> None:
    """The logits have a bias, which started at the share of positives; losses and gates are in the history."""
    ranker, found = load_ranker(run)
    assert found.config.logit_bias and found.info["last_training_time"] == 50
    assert found.info["flags"]["loss"] == "regression_compatible" and found.info["flags"]["listwise_share"] == 0.3
    assert np.all(np.abs(ranker.head.logit_bias.numpy()) > 0.1)
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    first = next(row for row in rows if row["kind"] == "train")
    for task in ("purchase", "click"):
        assert 0 < first[f"gate_entropy/{task}"] <= math.log(2) + 1e-6
        assert first[f"gate_entropy_share/{task}"] == pytest.approx(first[f"gate_entropy/{task}"] / math.log(2))
        assert first[f"expert_use/{task}/0"] + first[f"expert_use/{task}/1"] == pytest.approx(1.0, abs=1e-5)


def test_the_bias_starts_at_the_share_of_positives(lists: Path, tmp_path: Path) -> None:
    manifest = load_manifest(lists)
    with train_flags_of(f"--lists={lists}", f"--output={tmp_path}", *small_model("--loss=calibrated_softmax", "--anchor_label=2")):
        ranker = preparation.prepare(manifest.spec(), manifest, preparation.load_data(manifest))
    split = manifest.split("train")
    shares = np.array([split.labels[task] / split.items for task in ("purchase", "click")])
    np.testing.assert_allclose(ranker.head.logit_bias, np.log(shares / 2), rtol=1e-5)


def test_calibrate_then_evaluate(fresh: Path, lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate_job(f"--run={fresh}", f"--lists={lists}", "--method=platt") == 0
    assert "platt on " in capsys.readouterr().out
    stored = (fresh / "calibration.json").read_bytes()
    assert "is there already; remove it to fit another" in message(calibrate_job, f"--run={fresh}", f"--lists={lists}")
    assert (fresh / "calibration.json").read_bytes() == stored
    found = load_calibration(fresh, load_ranker(fresh)[1].info["checkpoint"])
    assert found is not None and (found.split, found.condition, found.loss) == ("validation", "converted", "regression_compatible")
    assert found.data == load_manifest(lists).data_fingerprint() and set(found.tasks) == {"purchase", "click"}
    assert evaluate_job(f"--run={fresh}", f"--lists={lists}", "--split=validation", f"--output={tmp_path / 'e'}", "--bootstrap=30") == 0
    assert "fitted on these very lists" in capsys.readouterr().out
    summary = json.loads((tmp_path / "e" / "summary.json").read_text())
    assert summary["calibration"]["fitted_here"] and "<svg" in (tmp_path / "e" / "reliability.svg").read_text()
    for task in ("purchase", "click"):
        part, own = summary["tasks"][task]["calibration"], found.tasks[task]
        assert part["lists"] == found.lists < 40 and part["items"] == own.items
        assert part["about"].endswith("at least one positive of the primary task)")
        assert part["before"]["observed"] == part["after"]["observed"] == pytest.approx(own.positives / own.items)
        assert part["after"]["mean_predicted"] == pytest.approx(part["after"]["observed"], rel=1e-4)
        assert part["after"]["log_loss"] == pytest.approx(own.log_loss[1], rel=1e-6)
        assert part["after"]["slope"] == pytest.approx(1, abs=1e-4) and part["after"]["intercept"] == pytest.approx(0, abs=1e-4)


def test_converted_lists_alone(fresh: Path, lists: Path) -> None:
    ranker, run = load_ranker(fresh)
    scored, manifest = score_split(ranker, run.spec, str(lists), "test", 256)
    about = conditioned(scored, condition_of(manifest), 0)
    kept = [place for place, part in enumerate(np.split(scored.labels[:, 0], np.cumsum(scored.lengths)[:-1])) if part.any()]
    assert 0 < len(kept) < 40 and about.search_id.tolist() == scored.search_id[kept].tolist()
    assert isinstance(about, ScoredLists) and len(about.item) == about.lengths.sum() == scored.lengths[kept].sum()
    assert conditioned(scored, "all", 0) is scored


# What is refused ----------------------------------------------------------------------------------------------------------


def test_a_split_that_was_trained_on(fresh: Path, lists: Path) -> None:
    text = message(calibrate_job, f"--run={fresh}", f"--lists={lists}", "--split=train")
    assert "--split=train: the run was trained on it (train)" in text and not (fresh / "calibration.json").exists()


def test_other_lists_only_if_they_are_later(fresh: Path, lists: Path, tmp_path: Path) -> None:
    content = load_manifest(lists).model_dump(mode="json")
    content["splits"]["train"]["files"][0]["sha256"] = "0"
    other = tmp_path / "other"
    other.mkdir()
    (other / "data").symlink_to(lists / "data")
    publish_json(other / "manifest.json", {**content, "splits": {**content["splits"], "validation": content["splits"]["train"]}})
    assert "does not begin after its training lists end" in message(calibrate_job, f"--run={fresh}", f"--lists={other}")
    publish_json(other / "manifest.json", content)
    manifest = load_manifest(other)
    check_split(load_run(fresh).info, manifest, "validation")
    with pytest.raises(CvrError, match="not the lists that the run was trained on"):
        check_split({**load_run(fresh).info, "last_training_time": None}, manifest, "validation")


def test_flags_of_no_loss(lists: Path, tmp_path: Path) -> None:
    model = small_model("--loss=calibrated_softmax", "--anchor_label=0")
    assert "--anchor_label=0.0 must be above 0" in message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", *model)
