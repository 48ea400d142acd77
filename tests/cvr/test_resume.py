"""A training run that was interrupted and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.checkpoints import TrainingState
from cvr.errors import CvrError
from cvr.runs import load_run
from tests.cvr.jobs import message, small_model, train_job

FLAGS = small_model(
    "--dropout=0.2",
    "--weight_decay=0.01",
    "--row_decay=0.001",
    "--checkpoint_every=3",
    "--validation_split=",
    "--deterministic",
)


class _Interrupted(BaseException):
    """Stands for Ctrl-C or a lost machine."""


@pytest.fixture(scope="module", autouse=True)
def _determinism_ends() -> Iterator[None]:
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def _weights(run: Path) -> dict[str, np.ndarray]:
    """All values of the run's chosen checkpoint: model, both optimizers' moments, and the place in the data."""
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "finished"
    reader = tf.train.load_checkpoint(str(run / info["checkpoint"]))
    names = [
        name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name and "save_counter" not in name
    ]
    return {name: reader.get_tensor(name) for name in names}


def _history(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "items_per_second"} for row in rows]


@pytest.fixture(scope="module")
def whole(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "model"
    assert train_job(f"--lists={lists}", f"--output={run}", *FLAGS) == 0
    return run


def _train_until(step: int, *arguments: str) -> None:
    """Trains and is lost after step number `step`."""
    advance = TrainingState.advance

    def guarded(self: TrainingState) -> int:
        done = advance(self)
        if done == step:
            raise _Interrupted
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "advance", guarded)
        with pytest.raises(_Interrupted):
            train_job(*arguments)


@pytest.fixture(scope="module")
def interrupted(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that lost two steps after its checkpoint of step 3."""
    run = tmp_path_factory.mktemp("resumed") / "model"
    _train_until(5, f"--lists={lists}", f"--output={run}", *FLAGS)
    return run


def test_resuming_with_other_settings_names_them(interrupted: Path, lists: Path) -> None:
    text = message(
        train_job, f"--lists={lists}", f"--output={interrupted}", *FLAGS, "--learning_rate=0.02", "--experts=3"
    )
    assert "interrupted run with other settings" in text
    assert "learning_rate: 0.01 then, 0.02 now" in text and "experts: 2 then, 3 now" in text
    assert "deep_width" not in text


def test_an_unfinished_run_cannot_be_evaluated(interrupted: Path) -> None:
    with pytest.raises(CvrError, match="not finished; run the same cvr.train command again"):
        load_run(interrupted)


def test_same_bits_after_two_interruptions(
    whole: Path, interrupted: Path, lists: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One in the first epoch, and one in the second."""
    arguments = (f"--lists={lists}", f"--output={interrupted}", *FLAGS)
    per_epoch = json.loads((whole / "run.json").read_text())["steps"] // 2
    assert per_epoch > 5
    _train_until(per_epoch + 2, *arguments)
    assert "resuming at step 3 (epoch 1)" in capfd.readouterr().out
    assert train_job(*arguments) == 0
    assert "(epoch 2)" in capfd.readouterr().out
    expected, found = _weights(whole), _weights(interrupted)
    assert expected.keys() == found.keys() and len(expected) > 40
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    steps = [row["step"] for row in _history(interrupted)]
    assert steps == sorted(set(steps)) and steps[-1] == 2 * per_epoch


def test_a_finished_run_is_not_overwritten(whole: Path, lists: Path) -> None:
    text = message(train_job, f"--lists={lists}", f"--output={whole}", *FLAGS)
    assert "already holds a finished run; choose another folder or remove it" in text


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    """A user who swaps checkpoints reads which one does not fit."""

    def state(width: int) -> TrainingState:
        model = tf.keras.Sequential([tf.keras.layers.Dense(width, input_shape=[2])])
        return TrainingState(tmp_path, model, tf.keras.optimizers.SGD(), keep=2)

    assert not state(3).restore()
    saved = state(3)
    saved.step.assign(7)
    assert saved.save().endswith("ckpt-7")
    assert state(3).restore()
    with pytest.raises(CvrError, match="cannot resume from .*ckpt-7"):
        state(4).restore()


def test_the_best_model_is_kept_beside_the_latest(tmp_path: Path) -> None:
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[1], kernel_initializer="ones")])
    state = TrainingState(tmp_path, model, tf.keras.optimizers.SGD(), keep=2)
    assert state.best_prefix is None
    state.step.assign(1)
    state.note_validation(0.5, epoch=1, save=True)
    best = state.best_prefix
    model.layers[0].kernel.assign([[2.0]])
    state.step.assign(2)
    state.note_validation(0.4, epoch=2, save=True)
    assert best is not None and state.best_prefix == best
    tf.train.Checkpoint(model=model).read(best)
    assert model.layers[0].kernel.numpy().tolist() == [[1.0]]


def test_no_checkpoint_is_written_over_another(tmp_path: Path) -> None:
    """Step 6 is saved as a multiple of --checkpoint_every and, with the epoch finished, once more."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[2])])
    state = TrainingState(tmp_path, model, tf.keras.optimizers.SGD(), keep=9)
    prefixes = []
    for step, epoch in ((6, 0), (6, 1), (7, 1), (12, 1), (12, 2)):
        state.step.assign(step)
        state.epoch.assign(epoch)
        prefixes.append(state.save())
        assert state.latest_prefix == prefixes[-1]
    assert [Path(prefix).name for prefix in prefixes] == ["ckpt-6", "ckpt-7", "ckpt-8", "ckpt-13", "ckpt-14"]
