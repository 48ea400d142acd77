"""Distillation from the command line: teachers beside and before, resuming to the bit, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from cvr import train_flags
from cvr.checkpoints import TrainingState
from cvr.manifest import load_manifest, publish_json
from cvr.runs import load_ranker
from cvr.teachers import SEED_OFFSET, flags_in, plan_teacher
from cvr.warm_start import find_base, variables_of
from tests.cvr.jobs import evaluate_job, message, small_model, train_flags_of, train_job
from tests.support import random_columns, tiny_spec, write_lists

BARE = """
dataset: bare
tasks:
  purchase: {events: [purchase], window: 1d, primary: true}
  click: {events: [click], window: 1h}
features:
  price: {kind: numerical, level: item, from: item.price}
  item: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 30, dim: 2}}
"""
"""As few features as a table and a projection need: tracing takes most of a test's time."""
TEACHER = "--flagfile={inner}\n--cross_width=16\n# a comment\n--dropout=0.1\n"
INNER = "--backbone=dcnv2\n--deep_width=12\n--cross_layers=1\n--deep_layers=2\n--experts=1\n--expert_width=8\n"
FLAGS = flags.FLAGS
MODEL = small_model("--dropout=0.2", "--checkpoint_every=3", "--deterministic", "--epochs=1", "--keep_best")


@pytest.fixture(scope="module", autouse=True)
def _determinism_ends() -> Iterator[None]:
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published lists of two tasks."""
    folder, spec = tmp_path_factory.mktemp("bare") / "lists", tiny_spec(BARE)
    seeds = {"train": (1, 2), "validation": (3,), "test": (4,)}
    write_lists(folder, {name: [random_columns(spec, 20, seed) for seed in found] for name, found in seeds.items()}, BARE)
    return folder


@pytest.fixture(scope="module")
def flagfile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a teacher that includes another file."""
    folder = tmp_path_factory.mktemp("flags")
    (folder / "inner.flags").write_text(INNER)
    (folder / "teacher.flags").write_text(TEACHER.format(inner=folder / "inner.flags"))
    return folder / "teacher.flags"


@pytest.fixture(scope="module")
def beside(bare: Path, flagfile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher was trained beside it."""
    run = tmp_path_factory.mktemp("beside") / "model"
    assert train_job(*_flags(bare, run, flagfile)) == 0
    return run


def _flags(bare: Path, run: Path, flagfile: Path) -> list[str]:
    return [f"--lists={bare}", f"--output={run}", *MODEL, f"--teacher_flagfile={flagfile}", "--distill_temperature=2"]


def _values(run: Path) -> dict[str, np.ndarray]:
    """Of the newest checkpoint."""
    newest = max((run / "checkpoints").glob("ckpt-*.index"), key=lambda path: int(path.stem.removeprefix("ckpt-")))
    reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name and "save_counter" not in name]
    return {name: reader.get_tensor(name) for name in names}


def _rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def test_a_run_tells_of_its_teacher(beside: Path) -> None:
    info = json.loads((beside / "run.json").read_text())
    teacher = info["teacher"]
    assert teacher["trained"] == "beside" and teacher["model"]["backbone_config"]["cross_width"] == 16
    assert (teacher["model"]["dropout"], teacher["model"]["experts"], teacher["model"]["seed"]) == (0.1, 1, 3 + SEED_OFFSET)
    assert info["model"]["backbone_config"]["cross_width"] == 8 and info["model"]["dropout"] == 0.2
    assert info["teacher_cost"]["flops_per_item"] > info["flops_per_item"]
    row = next(row for row in _rows(beside) if row["kind"] == "train")
    names = {f"{kind}/{task}" for kind in ("teacher_loss", "distillation") for task in ("purchase", "click")}
    assert names | {"teacher_gradient_norm"} <= set(row) and all(row[name] > 0 for name in names)
    assert set(row["loss"]) == {"purchase", "click"}


def test_same_bits_after_an_interruption(beside: Path, bare: Path, flagfile: Path, tmp_path: Path) -> None:
    """Both models, the moments of both optimizers, and what is logged."""
    arguments = _flags(bare, tmp_path / "model", flagfile)
    advance = TrainingState.advance

    def until(self: TrainingState) -> int:
        done = advance(self)
        if done == 5:
            raise KeyboardInterrupt
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "advance", until)
        with pytest.raises(KeyboardInterrupt):
            train_job(*arguments)
    other = flagfile.with_name("other.flags")
    other.write_text("--backbone=dcnv2\n--cross_width=4\n")
    text = message(train_job, *[f"--teacher_flagfile={other}" if "teacher_flagfile" in one else one for one in arguments])
    assert "teacher.model: " in text and "teacher_flagfile: " in text
    assert train_job(*arguments) == 0
    expected, found = _values(beside), _values(tmp_path / "model")
    assert expected.keys() == found.keys()
    for part in ("teacher/", "teacher_optimizer/", "teacher_guard/", "model/", "optimizer/"):
        assert any(name.startswith(part) for name in expected), part
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    logged = [{key: row[key] for key in row if key.startswith(("distillation", "teacher", "loss", "map"))} for row in _rows(beside)]
    assert logged == [{key: row[key] for key in row if key.startswith(("distillation", "teacher", "loss", "map"))}
                      for row in _rows(tmp_path / "model")]  # fmt: skip


def test_the_student_alone_is_loaded_and_evaluated(beside: Path, bare: Path, tmp_path: Path) -> None:
    ranker, run = load_ranker(beside)
    assert run.info["checkpoint"].startswith("checkpoints/best/") and ranker.config.backbone_config["cross_width"] == 8
    names = tf.train.load_checkpoint(run.checkpoint).get_variable_to_shape_map()
    assert not any("teacher" in name for name in names)
    newest = max((beside / "checkpoints").glob("ckpt-*.index"), key=lambda path: path.stat().st_mtime_ns)
    for base in (str(beside), str(newest)):  # what a warm start takes, also from a checkpoint that has the teacher
        assert find_base(base).values().keys() == variables_of(ranker).keys()
    assert evaluate_job(f"--run={beside}", f"--lists={bare}", f"--output={tmp_path / 'e'}", "--bootstrap=10") == 0


def test_a_finished_run_teaches(beside: Path, bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And is not changed by it."""
    before = {path: path.read_bytes() for path in beside.rglob("*") if path.is_file()}
    arguments = (f"--lists={bare}", f"--output={tmp_path / 'm'}", *MODEL, f"--teacher_run={beside}", "--distill_loss=softmax")
    assert train_job(*arguments, "--dry_run") == 0
    said = capsys.readouterr().out
    assert "teacher          dcnv2, a finished run; softmax at temperature 1, added 1 times; the student learns from it" in said
    assert said.count("FLOPs per item") == 2 and "; teacher_loss purchase " in said and "; distillation purchase " in said
    assert train_job(*arguments) == 0
    info = json.loads((tmp_path / "m" / "run.json").read_text())
    assert info["teacher"]["run"] == str(beside) and info["teacher"]["checkpoint"].startswith("checkpoints/best/")
    assert not any(name.startswith(("teacher/", "teacher_optimizer/")) for name in _values(tmp_path / "m"))
    assert {path: path.read_bytes() for path in beside.rglob("*") if path.is_file()} == before


# What is refused ---------------------------------------------------------------------------------------------------------


def test_flags_that_do_not_go_together(beside: Path, bare: Path, flagfile: Path, tmp_path: Path) -> None:
    base = (f"--lists={bare}", f"--output={tmp_path / 'm'}", *MODEL)
    run, file = f"--teacher_run={beside}", f"--teacher_flagfile={flagfile}"
    for given, expected in (
        ((run, file), "--teacher_run and --teacher_flagfile: a student has one teacher"),
        (("--distill_loss=mse", "--distill_weight=2"), "--distill_loss, --distill_weight without a teacher"),
        ((run, "--distill_both"), "--distill_both with --teacher_run: a finished run is not trained"),
        ((file, "--distill_loss=mse", "--distill_temperature=3"), "is the same for every t"),
        ((file, "--distribute=mirrored"), "a teacher with --distribute=mirrored: only one process"),
        ((f"--teacher_flagfile={tmp_path}/no.flags",), "no flagfile at --teacher_flagfile="),
        ((f"--teacher_run={tmp_path}",), "no run.json in"),
    ):
        assert expected in message(train_job, *base, *given)
    assert not (tmp_path / "m").exists()


def test_a_teacher_s_file_says_what_it_is_made_of_and_nothing_else(lists: Path, tmp_path: Path) -> None:
    file = tmp_path / "teacher.flags"
    base = (f"--lists={lists}", f"--output={tmp_path / 'm'}", *MODEL, f"--teacher_flagfile={file}")
    for content, expected in (
        ("--backbone=dcnv2\n--learning_rate=0.1\n--epochs=4\n", "--epochs, --learning_rate: no flag of a model"),
        ("--backbone=dcnv2\n--crosswidth=3\n", "--crosswidth=3: no flag of a model"),
        ("--backbone=dcnv2\n--layers=3\n", "--layers does not belong to --backbone=dcnv2"),
        ("--backbone=resnet\n", "value should be one of"),
        ("--encoder=lstm\n", "lstm"),
    ):
        file.write_text(content)
        text = message(train_job, *base)
        assert expected in text and str(file) in text, text


def test_the_student_s_own_flags_are_not_the_teacher_s(lists: Path, flagfile: Path) -> None:
    arguments = (f"--lists={lists}", "--output=unused", *small_model("--dropout=0.3", "--encoder=transformer", "--loss=calibrated_softmax"))
    file = flagfile.with_name("encoder.flags")
    file.write_text(f"--flagfile={flagfile}\n--encoder=target_attention\n")
    with train_flags_of(*arguments, f"--teacher_flagfile={file}"):
        plan = plan_teacher(load_manifest(lists))
    assert plan is not None and plan.config.dropout == 0.1 and plan.config.tower_width == 32 and plan.config.logit_bias
    assert [feature.encoder.name for feature in plan.spec.select(kind="sequence")] == ["target_attention"]


def test_a_teacher_that_does_not_fit_or_has_seen_the_validation_lists(beside: Path, bare: Path, tmp_path: Path) -> None:
    base = (f"--output={tmp_path / 'm'}", *MODEL, f"--teacher_run={beside}")
    text = message(train_job, f"--lists={bare}", "--train_splits=test", "--validation_split=train", *base)
    assert "was trained on 'train', the --validation_split of this run" in text
    manifest = load_manifest(bare)
    (tmp_path / "data").symlink_to(bare / "data")
    content = manifest.model_dump(mode="json")
    content["splits"]["train"]["files"] = content["splits"]["train"]["files"][:1]
    publish_json(tmp_path / "manifest.json", content)
    assert "was trained on other lists, and split 'validation'" in message(train_job, f"--lists={tmp_path}", *base)
    other = manifest.spec_text.replace("item.price", "item.cost")
    publish_json(tmp_path / "manifest.json", {**manifest.model_dump(mode="json"), "spec_text": other, "spec_fingerprint": "0" * 16})
    text = message(train_job, f"--lists={tmp_path}", *base)
    assert "other features" in text


def test_flagfiles_of_the_project(lists: Path, project_root: Path) -> None:
    """A teacher's file holds a model and nothing else; the student of SUAN's teacher is that of configs/distilled.flags."""
    with train_flags_of(f"--lists={lists}", "--output=unused", f"--flagfile={project_root}/configs/distilled.flags"):
        assert FLAGS.teacher_flagfile == "configs/distilled_teacher.flags" and FLAGS.distill_loss == "bce"
        student = train_flags.ranker_config()
        teacher, suan = (flags_in(str(project_root / "configs" / f"distilled_{name}.flags")) for name in ("teacher", "suan"))
        assert (teacher.backbone, teacher.variant, teacher.dropout, suan.encoder) == ("masknet", "S", 0.1, "{name: suan, layers: 2}")
        assert train_flags.ranker_config(suan) == dataclasses.replace(student, seed=SEED_OFFSET)
