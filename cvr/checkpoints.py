"""Checkpoints of a training run: model, optimizer, and the exact place in the data."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import tensorflow as tf

from cvr.errors import CvrError


def _first_line(error: Exception) -> str:
    """What TensorFlow's message says, without the names of its operations."""
    return re.sub(r"^{{function_node [^}]*}} | \[Op:\w+\]$", "", str(error).strip().split("\n")[0])


def damage(prefix: str) -> str:
    """Why a checkpoint's files cannot be read: cut, changed (each tensor has a checksum) or lost; empty where they can."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError, OSError) as error:  # TensorFlow's reader raises any of these
        return _first_line(error)
    return ""


class CheckpointFolder:
    """Whole checkpoints `ckpt-<number>` of one kind in one folder.

    A checkpoint is written beside the folder's others, flushed to disk, and published by renaming its index into place, last: what has an
    index is whole. A process that is killed leaves at most files that no reader takes for a checkpoint.
    """

    def __init__(self, folder: Path, checkpoint: tf.train.Checkpoint) -> None:
        self._folder, self._checkpoint = folder, checkpoint

    def prefix(self, number: int) -> str:
        """The path by which TensorFlow knows a checkpoint, less its files' endings."""
        return str(self._folder / f"ckpt-{number}")

    def numbers(self) -> list[int]:
        """Numbers of the checkpoints that are there, the oldest first."""
        found = [path.name.removeprefix("ckpt-").removesuffix(".index") for path in self._folder.glob("ckpt-*.index")]
        return sorted(int(number) for number in found if number.isdigit())

    def write(self, number: int) -> str:
        """Writes and publishes a checkpoint; returns its prefix. Raises CvrError where the disk does not take it."""
        scratch = self._folder / ".writing"
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            self._checkpoint.write(str(scratch / f"ckpt-{number}"))
            files = sorted(scratch.iterdir(), key=lambda path: path.suffix == ".index")
            for path in files:
                _flush(path)
            for path in files:
                os.replace(path, self._folder / path.name)
            _flush(self._folder)
        except (tf.errors.OpError, OSError) as error:
            last = self.numbers()[-1:]
            intact = f"checkpoint {self.prefix(last[0])} is intact" if last else "there is no earlier checkpoint"
            raise CvrError(
                f"cannot write checkpoint ckpt-{number} to {self._folder}: {_first_line(error)}; {intact}; "
                "make room and run the same command again"
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self.prefix(number)

    def keep_only(self, numbers: list[int]) -> None:
        """Removes all others, their indexes first."""
        for number in set(self.numbers()) - set(numbers):
            self._rename_or_remove(number, remove=True)

    def set_aside(self, number: int) -> None:
        """Renames a damaged checkpoint to `ckpt-<number>.damaged...`: no reader takes it for a checkpoint."""
        self._rename_or_remove(number, remove=False)

    def _rename_or_remove(self, number: int, remove: bool) -> None:
        name = f"ckpt-{number}"
        for path in [self._folder / f"{name}.index", *self._folder.glob(f"{name}.data-*")]:
            if remove:
                path.unlink(missing_ok=True)
            else:
                os.replace(path, path.with_name(path.name.replace(name, f"{name}.damaged")))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class TrainingState:
    """Everything that a resumed run needs, in TensorFlow checkpoints under `<run>/checkpoints`.

    `epoch` and `batch` are the place in the data: batches are a pure function of (files, seed, epoch), so skipping `batch` batches of an
    epoch gives the very ones that an uninterrupted run would see next. `best` is the best validation so far, `best_epoch` and `best_step`
    say when. `extra` are further objects whose variables belong to the state.
    """

    def __init__(self, folder: Path, model: tf.keras.Model, optimizer: tf.Module, keep: int = 3, **extra: tf.Module) -> None:
        def count(name: str) -> tf.Variable:
            return tf.Variable(0, dtype=tf.int64, trainable=False, name=name)

        self.epoch, self.batch, self.step = count("epoch"), count("batch"), count("step")
        self.best = tf.Variable(-1.0, dtype=tf.float64, trainable=False, name="best")
        self.best_epoch, self.best_step = count("best_epoch"), count("best_step")
        places = {name: getattr(self, name) for name in ("epoch", "batch", "step", "best", "best_epoch", "best_step")}
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, **places, **extra)
        self._keep = keep
        self._latest = CheckpointFolder(folder / "checkpoints", self._checkpoint)
        self._best = CheckpointFolder(folder / "checkpoints" / "best", tf.train.Checkpoint(model=model))

    def restore(self) -> bool:
        """Loads the newest checkpoint that can be read, if there is any. Raises CvrError as `newest` and `load` do."""
        number = self.newest()
        if number:
            self.load(number)
        return number > 0

    def newest(self) -> int:
        """Number of the newest checkpoint that can be read, 0 where there is none; says on stderr which ones cannot and why, and sets them
        aside. Raises CvrError when none can be read."""
        numbers = self._latest.numbers()
        for number in reversed(numbers):
            prefix = self._latest.prefix(number)
            reason = damage(prefix)
            if not reason:
                return number
            print(f"checkpoint {prefix} is damaged ({reason}); going back to the one before", file=sys.stderr, flush=True)
            self._latest.set_aside(number)
        if numbers:
            raise CvrError(f"no checkpoint beside {self._latest.prefix(numbers[0])} can be read; remove the output folder to start over")
        return 0

    def load(self, number: int) -> None:
        """Loads a checkpoint. Raises CvrError when it belongs to another model."""
        prefix = self._latest.prefix(number)
        try:
            self._checkpoint.read(prefix).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise CvrError(f"cannot resume from {prefix}: {_first_line(error)}; remove the output folder to start over") from error

    def advance(self) -> int:
        """Counts a step and its batch; returns the number of steps done."""
        self.batch.assign_add(1)
        return int(self.step.assign_add(1).numpy())

    def finish_epoch(self) -> None:
        """Moves to the first batch of the next epoch."""
        self.epoch.assign_add(1)
        self.batch.assign(0)

    def save(self) -> str:
        """Writes a checkpoint beside the earlier ones, never over one; returns its prefix.

        Its number is step + finished epochs: two checkpoints of one step, before and after the end of an epoch, differ in it.
        """
        number = int(self.step.numpy()) + int(self.epoch.numpy())
        prefix = self._latest.prefix(number)
        if number not in self._latest.numbers():
            prefix = self._latest.write(number)
        self._latest.keep_only(self._latest.numbers()[-self._keep :])
        # The best one before is needed until the checkpoint above tells of the new one.
        self._best.keep_only([int(self.best_step.numpy())])
        return prefix

    @property
    def latest_prefix(self) -> str | None:
        """Prefix of the newest checkpoint, if there is one."""
        numbers = self._latest.numbers()
        return self._latest.prefix(numbers[-1]) if numbers else None

    def note_validation(self, value: float, epoch: int, save: bool) -> None:
        """Remembers `value` of a validation after `epoch` epochs if it is the best so far, and with `save` writes the model then."""
        if value <= float(self.best.numpy()):
            return
        self.best.assign(value)
        self.best_epoch.assign(epoch)
        self.best_step.assign(self.step)
        if save:
            self._best.write(int(self.step.numpy()))

    @property
    def best_prefix(self) -> str | None:
        """Prefix of the best model's checkpoint, if there is one."""
        number = int(self.best_step.numpy())
        return self._best.prefix(number) if number in self._best.numbers() else None
