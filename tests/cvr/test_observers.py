"""Histograms and profiles where TensorBoard looks for them, for the steps that were asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from cvr import observers, train_flags
from cvr.errors import CvrError
from cvr.observers import Histograms, StepProfile


def test_histograms_of_all_weights_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "LARGEST", 6)
    weights = [tf.Variable(tf.ones([9, 2]), name="table"), tf.Variable(2.0, name="scale")]
    histograms = Histograms(SimpleNamespace(trainable_variables=weights), tmp_path, every=3)  # type: ignore[arg-type]
    for step in range(1, 8):
        histograms.after(step)
    found = {}
    for path in (tmp_path / "tensorboard").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[event.step, value.tag] = tf.make_ndarray(value.tensor)[:, 2].sum()  # columns: from, to, how many
    assert found == {(3, "table"): 6.0, (6, "table"): 6.0, (3, "scale"): 1.0, (6, "scale"): 1.0}


def test_no_histograms_unless_asked(tmp_path: Path) -> None:
    Histograms(SimpleNamespace(trainable_variables=[]), tmp_path, every=0).after(1)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("done", "steps", "started"), [(0, (2, 3), [1, 3]), (0, (1, 1), [0, 1]), (2, (1, 4), [2, 4]), (5, (1, 4), [])])
def test_the_steps_that_are_profiled(
    done: int, steps: tuple[int, int], started: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before its first step to after its last; a run that goes on within the range begins there."""
    now, seen = [done], []
    profiler = SimpleNamespace(start=lambda folder: seen.append(now[0]), stop=lambda: seen.append(now[0]))
    monkeypatch.setattr(tf.profiler, "experimental", profiler)
    profile = StepProfile(tmp_path, steps)
    profile.after(done)
    for now[0] in range(done + 1, 7):
        profile.after(now[0])
    profile.stop()
    assert seen == started


def test_a_profile_is_written(tmp_path: Path) -> None:
    profile = StepProfile(tmp_path, (1, 9))
    profile.after(0)
    tf.matmul(tf.ones([8, 8]), tf.ones([8, 8]))
    profile.stop()
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize("text", ["7", "a:b", "3:2", "0:4", ":3"])
def test_steps_that_are_no_range(text: str) -> None:
    with pytest.raises(CvrError, match=f"--profile_steps={text}: give the first and the last step, such as 100:110"):
        train_flags._step_range(text)
    assert train_flags._step_range("3:7") == (3, 7)
