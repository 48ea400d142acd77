"""Checkpoints of a training run: model, optimizer, and the exact place in the data."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from cvr.errors import CvrError


class TrainingState:
    """Everything that a resumed run needs, in TensorFlow checkpoints under `<run>/checkpoints`.

    `epoch` and `batch` are the place in the data: batches are a pure function of (files, seed, epoch), so skipping `batch` batches of an
    epoch gives the very ones that an uninterrupted run would see next.
    """

    def __init__(self, folder: Path, model: tf.keras.Model, optimizer: tf.Module, keep: int = 3) -> None:
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        self.batch = tf.Variable(0, dtype=tf.int64, trainable=False, name="batch")
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.best = tf.Variable(-1.0, dtype=tf.float64, trainable=False, name="best")
        self._checkpoint = tf.train.Checkpoint(
            model=model, optimizer=optimizer, epoch=self.epoch, batch=self.batch, step=self.step, best=self.best
        )
        self._latest = tf.train.CheckpointManager(self._checkpoint, str(folder / "checkpoints"), max_to_keep=keep)
        self._best = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(folder / "checkpoints" / "best"), max_to_keep=1)

    def restore(self) -> bool:
        """Loads the newest checkpoint, if there is one. Raises CvrError when it cannot be read."""
        newest = self._latest.latest_checkpoint
        if newest is None:
            return False
        try:
            self._checkpoint.restore(newest).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as error:
            raise CvrError(f"cannot resume from {newest}: {str(error).splitlines()[0]}; remove the output folder to start over") from error
        return True

    def save(self) -> str:
        """Writes a checkpoint beside the earlier ones, never over one; returns its prefix.

        Its number is step + finished epochs: two checkpoints of one step, before and after the end of an epoch, differ in it.
        """
        return self._latest.save(checkpoint_number=int(self.step.numpy()) + int(self.epoch.numpy()))

    @property
    def latest_prefix(self) -> str | None:
        """Prefix of the newest checkpoint, if there is one."""
        return self._latest.latest_checkpoint

    def save_best(self, value: float) -> str | None:
        """Writes the model beside the others when `value` is the best so far; returns its prefix then."""
        if value <= float(self.best.numpy()):
            return None
        self.best.assign(value)
        return self._best.save(checkpoint_number=int(self.step.numpy()))

    @property
    def best_prefix(self) -> str | None:
        """Prefix of the best model's checkpoint, if validation ever chose one."""
        return self._best.latest_checkpoint
