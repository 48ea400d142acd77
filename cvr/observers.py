"""Looks into a run for TensorBoard: histograms of the weights, and a profile of some steps."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from cvr.ranker import Ranker

LARGEST = 2**20
"""A histogram of a larger variable is made of its first rows."""


class Histograms:
    """Histograms of all weights every `every` steps (0 for never) in `<folder>/tensorboard`."""

    def __init__(self, ranker: Ranker, folder: Path, every: int) -> None:
        self._ranker, self._every = ranker, every
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard")) if every else None

    def after(self, step: int) -> None:
        """Called after each step."""
        if self._writer is None or step % self._every:
            return
        with self._writer.as_default(step=step):
            for variable in self._ranker.trainable_variables:
                rows = max(LARGEST // max(variable.shape[1:].num_elements(), 1), 1) if variable.shape.rank else None
                tf.summary.histogram(variable.name.split(":")[0], variable[:rows] if rows else variable)


class StepProfile:
    """TensorFlow's profile of the steps from `steps[0]` to `steps[1]`, both included, in `<folder>/tensorboard`."""

    def __init__(self, folder: Path, steps: tuple[int, int] | None) -> None:
        self._folder, self._steps, self._running = str(folder / "tensorboard"), steps, False

    def after(self, step: int) -> None:
        """Called after each step, and with the number of steps done before the first one."""
        if self._steps is None:
            return
        first, last = self._steps
        if self._running and step >= last:
            self.stop()
        elif not self._running and first - 1 <= step < last:
            tf.profiler.experimental.start(self._folder)
            self._running = True

    def stop(self) -> None:
        """Ends a profile that runs; so does the end of training."""
        if self._running:
            tf.profiler.experimental.stop()
            self._running = False
