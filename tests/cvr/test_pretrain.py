"""`cvr.pretrain` and what a ranker takes of it: resumable, immutable, the item table under its own path, bit-equal where it is frozen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.checkpoints import TrainingState
from cvr.runs import load_ranker
from cvr.warm_start import Base, find_base
from tests.cvr.jobs import evaluate_job, message, pretrain_job, small_model, train_job

FLAGS = (
    "--encoder={name: decoder, layers: 1, heads: 1}",
    "--epochs=2",
    "--batch_sequences=8",
    "--negatives=8",
    "--learning_rate=0.01",
    "--checkpoint_every=2",
    "--deterministic",
)
RANKER = small_model("--epochs=1", "--validation_split=", "--weight_decay=0.1", "--row_decay=0.1")
TABLE = "extraction/tables/recent/table"
ACTIONS = "extraction/_events/recent/action_table"


class _Interrupted(BaseException):
    """Stands for a lost machine."""


@pytest.fixture(scope="module", autouse=True)
def _determinism_ends() -> Iterator[None]:
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


@pytest.fixture(scope="module")
def run(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pre-training."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    assert pretrain_job(f"--lists={lists}", f"--output={folder}", *FLAGS) == 0
    return folder


def _values(folder: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(find_base(str(folder)).checkpoint)
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name and "save_counter" not in name]
    return {name: reader.get_tensor(name) for name in names}


def test_what_a_run_says_and_holds(run: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    assert (info["program"], info["status"], info["epochs_done"]) == ("cvr.pretrain", "finished", 2)
    found = info["counts"]["train"]
    assert info["steps"] == 2 * -(-found["sequences"] // 8) and found["lists"] == 40 and found["targets"] >= found["sequences"]
    assert set(info["validation"]) == {"next_item", "next_action"} and all(value > 0 for value in info["validation"].values())
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2]
    values = find_base(str(run)).values()
    assert {TABLE, ACTIONS} <= set(values) and "extraction/_events/recent/age_table" not in values
    assert info["parameters"] == sum(value.size for path, value in values.items() if path != "draws")


def test_resumed_is_bit_equal(run: Path, lists: Path, tmp_path: Path) -> None:
    command = (f"--lists={lists}", f"--output={tmp_path}", *FLAGS)
    advance = TrainingState.advance

    def guarded(state: TrainingState) -> int:
        done = advance(state)
        if done == 3:
            raise _Interrupted
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "advance", guarded)
        with pytest.raises(_Interrupted):
            pretrain_job(*command)
    assert "negatives: 8 then, 9 now" in message(pretrain_job, *command, "--negatives=9")
    unfinished = (f"--lists={lists}", f"--output={tmp_path / 'm'}", f"--warm_start_from={tmp_path}")
    assert "this run is not finished" in message(train_job, *unfinished)
    assert pretrain_job(*command) == 0
    expected, found = _values(run), _values(tmp_path)
    assert expected.keys() == found.keys() and len(expected) > 20
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert "already holds a finished run" in message(pretrain_job, *command)


def test_it_is_no_ranker(run: Path, lists: Path, tmp_path: Path) -> None:
    text = message(evaluate_job, f"--run={run}", f"--lists={lists}", "--split=test", f"--output={tmp_path / 'e'}")
    assert "is a pre-training, which ranks nothing; train a ranker with --warm_start_from" in text


def _transfer(run: Path, lists: Path, output: Path, *flags: str) -> tuple[dict[str, tuple[str, str]], Base]:
    """(status and reason by variable, the new run)."""
    assert train_job(f"--lists={lists}", f"--output={output}", f"--warm_start_from={run}", *RANKER, *flags) == 0
    report = json.loads((output / "warm_start.json").read_text())
    return {row["variable"]: (row["status"], row["reason"]) for row in report["variables"]}, find_base(str(output))


def test_sparse_parameters_loaded_and_frozen(run: Path, lists: Path, tmp_path: Path) -> None:
    """STSF: the table alone, with its bits, whatever decays; all else starts anew and is trained."""
    found, trained = _transfer(run, lists, tmp_path / "m", "--warm_start_parts=tables", "--freeze_tables=recent")
    assert [path for path, (status, _) in found.items() if status == "loaded"] == [TABLE]
    before = find_base(str(run)).values()[TABLE]
    np.testing.assert_array_equal(trained.values()[TABLE], before)
    np.testing.assert_array_equal(load_ranker(tmp_path / "m")[0].extraction.tables["recent"].table, before)
    text = message(
        train_job, f"--lists={lists}", f"--output={tmp_path / 'n'}", f"--warm_start_from={run}", *RANKER, "--freeze_tables=tags"
    )
    assert "does not give table 'tags' (not in the base), which would stay random" in text


def test_full_transfer(run: Path, lists: Path, tmp_path: Path) -> None:
    """With the same decoder all that the generator has and a ranker, too; it then trains on."""
    found, trained = _transfer(run, lists, tmp_path / "m", FLAGS[0])
    loaded = {path for path, (status, _) in found.items() if status == "loaded"}
    decoder = {path for path in found if path.startswith("extraction/_encoders/recent/")}
    assert loaded == {TABLE, ACTIONS, *decoder} and len(decoder) == 10
    assert found["extraction/_events/recent/age_table"] == ("new", "not in the base")
    assert {path for path, (status, _) in found.items() if status == "dropped"} == {"draws", "next_action/kernel"}
    before, after = find_base(str(run)).values(), trained.values()
    assert all(np.any(after[path] != before[path]) for path in loaded)


def test_with_another_encoder_the_vectors_of_events_stay(run: Path, lists: Path, tmp_path: Path) -> None:
    found, _ = _transfer(run, lists, tmp_path / "m", "--encoder=mean")
    assert {path for path, (status, _) in found.items() if status == "loaded"} == {TABLE, ACTIONS}


def test_nothing_to_learn_from(lists: Path, tmp_path: Path) -> None:
    text = message(pretrain_job, f"--lists={lists}", f"--output={tmp_path}", "--encoder=gru")
    assert "gru cannot tell what comes next" in text and not (tmp_path / "run.json").exists()
