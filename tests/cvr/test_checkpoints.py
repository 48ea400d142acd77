"""Checkpoints on disk: damaged ones are told and set aside, a full disk harms none, half-written ones are not taken for whole."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tensorflow as tf

from cvr.checkpoints import TrainingState, damage
from cvr.errors import CvrError

DATA = "data-00000-of-00001"


def _state(folder: Path, keep: int = 3) -> TrainingState:
    model = tf.keras.Sequential([tf.keras.layers.Dense(50, input_shape=[20])])
    return TrainingState(folder, model, tf.keras.optimizers.SGD(), keep=keep)


@pytest.fixture
def saved(tmp_path: Path) -> TrainingState:
    """Three checkpoints, of steps 1 to 3."""
    state = _state(tmp_path)
    for _ in range(3):
        state.advance()
        state.save()
    return state


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_cut, _change, Path.unlink, lambda path: os.truncate(path, 0)])
@pytest.mark.parametrize("ending", [DATA, "index"])
def test_a_damaged_newest_one_falls_back(
    harm: Callable[[Path], None], ending: str, saved: TrainingState, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    harm(tmp_path / "checkpoints" / f"ckpt-3.{ending}")
    state = _state(tmp_path)
    assert state.restore() and int(state.step.numpy()) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if "is damaged" in line]
    lost = ending == "index" and harm is Path.unlink  # what has no index never was a checkpoint
    assert len(said) == (not lost)
    if said:
        assert f"checkpoint {tmp_path}/checkpoints/ckpt-3 is damaged (" in said[0] and "going back to the one before" in said[0]
    assert state.latest_prefix == str(tmp_path / "checkpoints" / "ckpt-2")
    state.advance()
    assert not damage(state.save())  # step 3 again, in its own place


def test_all_damaged_is_an_error(saved: TrainingState, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        _cut(tmp_path / "checkpoints" / f"ckpt-{number}.{DATA}")
    with pytest.raises(CvrError, match="no checkpoint beside .*ckpt-1 can be read; remove the output folder"):
        _state(tmp_path).restore()


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """A disk that takes no file longer than `size` bytes: writing further fails as on a full one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_one_whole(saved: TrainingState, tmp_path: Path) -> None:
    saved.advance()
    with _files_up_to(1000), pytest.raises(CvrError) as caught:
        saved.save()
    assert "cannot write checkpoint ckpt-4" in str(caught.value) and "File too large" in str(caught.value)
    assert "ckpt-3 is intact; make room and run the same command again" in str(caught.value)
    names = {f"ckpt-{number}.{ending}" for number in (1, 2, 3) for ending in (DATA, "index")}
    assert set(os.listdir(tmp_path / "checkpoints")) == names
    assert not damage(saved.save())


def test_a_process_killed_while_it_writes_leaves_no_checkpoint(
    saved: TrainingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost between the two renames: the data is in place and the index is not."""

    class _Lost(BaseException):
        pass

    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if str(target).endswith(".index"):
            raise _Lost
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    saved.advance()
    with pytest.raises(_Lost):
        saved.save()
    monkeypatch.undo()
    assert (tmp_path / "checkpoints" / f"ckpt-4.{DATA}").is_file()
    state = _state(tmp_path)
    assert state.restore() and int(state.step.numpy()) == 3


def test_old_ones_go_and_the_best_stays(tmp_path: Path) -> None:
    """The best model before stays until a checkpoint tells of the new one."""
    state, best = _state(tmp_path, keep=2), tmp_path / "checkpoints" / "best"
    for value in (0.5, 0.4, 0.6, 0.3):
        step = state.advance()
        state.note_validation(value, epoch=step, save=True)
        if value == 0.6:
            assert {path.name for path in best.glob("*.index")} == {"ckpt-1.index", "ckpt-3.index"}
        state.save()
    assert [path.name for path in best.glob("*.index")] == ["ckpt-3.index"] and state.best_prefix == str(best / "ckpt-3")
    assert {path.name for path in best.parent.glob("*.index")} == {"ckpt-3.index", "ckpt-4.index"}
    again = _state(tmp_path)
    assert again.restore() and (float(again.best.numpy()), int(again.best_epoch.numpy())) == (0.6, 3)
    assert again.best_prefix == state.best_prefix
