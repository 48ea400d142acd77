"""Signals while a model trains: the step is finished, the work saved, the exit code told; patience ends a run early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cvr.checkpoints import TrainingState
from cvr.loop import Trainer
from cvr.stopping import Stopped, stop_on_signals
from tests.cvr.jobs import message, small_model, train_job


def test_a_signal_is_heard_at_the_next_check(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        stop.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped) as caught:
            stop.check()
    assert caught.value.exit_code == 130 and signal.getsignal(signal.SIGINT) is before
    assert "SIGINT: finishing the step and saving; once more to stop at once" in capfd.readouterr().err


def test_the_second_signal_ends_the_process() -> None:
    code = (
        "import signal; from cvr.stopping import stop_on_signals\n"
        "with stop_on_signals():\n"
        "    signal.raise_signal(signal.SIGTERM); print('once', flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM); print('twice', flush=True)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (answer.returncode, answer.stdout) == (-signal.SIGTERM, "once\n")


def test_ctrl_c_in_a_step_and_in_validation(
    lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in step 2 leaves a checkpoint of step 2; SIGTERM in the validation leaves one before it, and it is done when resumed."""
    run = tmp_path / "run"
    arguments = (f"--lists={lists}", f"--output={run}", *small_model("--epochs=1"))
    advance = TrainingState.advance

    def interrupted(self: TrainingState) -> int:
        step = advance(self)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step

    monkeypatch.setattr(TrainingState, "advance", interrupted)
    assert train_job(*arguments) == 130
    assert [path.name for path in (run / "checkpoints").glob("*.index")] == ["ckpt-2.index"]
    assert "stopped by SIGINT and saved; the same command resumes at this step" in capfd.readouterr().err
    validate = Trainer._validate

    def terminated(self: Trainer, *rest: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        validate(self, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", terminated)
        assert train_job(*arguments) == 143
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    steps = rows[-1]["step"]
    assert {row["kind"] for row in rows} == {"train"}
    assert train_job(*arguments) == 0
    assert f"resuming at step {steps} (epoch 1)" in capfd.readouterr().out
    info = json.loads((run / "run.json").read_text())
    assert info["status"] == "finished" and info["steps"] == steps and set(info["validation"]) == {"purchase", "click"}


def test_patience_ends_a_run_that_does_not_get_better(lists: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With a rate of 0 every validation gives the first one's mAP: two epochs after it the run ends with the first epoch's model."""
    run = tmp_path / "run"
    flags = small_model("--epochs=9", "--patience=2", "--learning_rate=0", "--batch_items=60")
    assert train_job(f"--lists={lists}", f"--output={run}", *flags) == 0
    info = json.loads((run / "run.json").read_text())
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2, 3] and info["epochs_done"] == 3
    assert info["checkpoint"] == f"checkpoints/best/ckpt-{info['steps'] // 3}"
    assert "no better validation in 2 epochs: stopped after epoch 3" in capfd.readouterr().err


def test_the_best_epoch_needs_lists_to_tell_it(lists: Path, tmp_path: Path) -> None:
    for flag in ("--patience=1", "--keep_best"):
        text = message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", *small_model("--validation_split="), flag)
        assert "go by the validation mAP of the primary task 'purchase', and --validation_split=''" in text
