"""The loop of generative pre-training: steps, a validation after each epoch, checkpoints."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr.checkpoints import TrainingState
from cvr.errors import CvrError
from cvr.generator import LOSSES, Batch, Generator
from cvr.guard import LossGuard
from cvr.history import History
from cvr.loop import LOG_EVERY
from cvr.optimizers import make_optimizer
from cvr.pretrain_flags import PretrainSettings
from cvr.progress import Progress
from cvr.schedules import WarmupCosine
from cvr.sequences import Sequences
from cvr.stopping import Stopped, StopRequest, stop_on_signals


@dataclasses.dataclass(frozen=True)
class PretrainData:
    """Sequences to train on, and those of the validation split, whose targets none of them has (or None)."""

    train: Sequences
    validation: Sequences | None


class PretrainHistory(History):
    """Rows of validation hold losses, {"kind": "validation", "step", "epoch", "loss": {next_item, next_action}}, in place of mAP."""

    def validation(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Adds a row of validation."""
        self._append({"kind": "validation", "step": step, "epoch": epoch, "loss": dict(values)})
        self._scalars(step, {f"validation_loss/{name}": value for name, value in values.items()})

    def last_validation(self) -> dict[str, float]:
        """Losses of the last validation; empty where there was none."""
        rows = [row["loss"] for row in self.rows() if row["kind"] == "validation"]
        return rows[-1] if rows else {}


class Pretrainer:
    """Trains one generator in one folder; `run` resumes from the newest checkpoint there."""

    def __init__(self, generator: Generator, data: PretrainData, settings: PretrainSettings, folder: Path) -> None:
        self.generator, self.data, self.settings = generator, data, settings
        self.steps_per_epoch = math.ceil(len(data.train) / settings.batch_sequences)
        self.total_steps = self.steps_per_epoch * settings.epochs
        warmup = min(int(settings.warmup_share * self.steps_per_epoch), self.total_steps - 1)
        self.schedule, of_table = (
            WarmupCosine(peak, warmup, self.total_steps, settings.final_rate_share * peak)
            for peak in (settings.learning_rate, settings.table_learning_rate)
        )
        self.optimizer = make_optimizer(
            lambda: generator.extraction.table_variables, lambda: generator.dense_variables, self.schedule, of_table, settings.optimizer
        )
        self.guard = LossGuard(len(LOSSES))
        self.state = TrainingState(folder, generator, self.optimizer, settings.keep_checkpoints, guard=self.guard)
        self.history = PretrainHistory(folder)
        self._note = ""

    def run(self) -> dict[str, Any]:
        """Trains to the end of the last epoch; returns speed, steps and the last validation.

        Raises CvrError on a loss or gradient that is not finite, an exploding loss, or a disk that takes no more, and Stopped on Ctrl-C or
        SIGTERM; in all cases the last checkpoint is whole, and on Stopped it holds the last step.
        """
        if self.state.restore():
            print(f"resuming at step {self._step} (epoch {self._epoch + 1})", flush=True)
        self.history.go_on_from(self._step - self.guard.steps, self._epoch if self._step else -1)
        progress = Progress(self.total_steps, self._step, self.flops_per_target)
        started = time.monotonic()
        with stop_on_signals() as stop:
            try:
                self._train(progress, stop)
            except Stopped:
                self._save()
                raise
            finally:
                progress.close()
        return {
            "steps": self._step,
            "epochs_done": self._epoch,
            "targets_per_second_train": progress.items_per_second,
            "seconds_train": time.monotonic() - started,
            "validation": self.history.last_validation(),
        }

    @property
    def flops_per_target(self) -> float:
        """Of training: three times the products forward."""
        train = self.data.train
        return 3.0 * (self.generator.target_flops() + self.generator.sequence_flops() * len(train) / train.targets)

    @property
    def _step(self) -> int:
        return int(self.state.step.numpy())

    @property
    def _epoch(self) -> int:
        return int(self.state.epoch.numpy())

    def _train(self, progress: Progress, stop: StopRequest) -> None:
        signature = [{name: tf.TensorSpec(value.shape, value.dtype) for name, value in self._batch(self.data.train, np.arange(0)).items()}]
        train = tf.function(self._update, autograph=False, input_signature=signature)
        number = tf.TensorSpec([], tf.int64)
        validate = tf.function(self.generator.losses_of, autograph=False, input_signature=[*signature, number])
        while self._epoch < self.settings.epochs:
            for batch in self._batches(self._epoch, int(self.state.batch.numpy())):
                targets = int(train(batch))
                step = self.state.advance()
                if step % LOG_EVERY == 0 or step == 1:
                    self._log(progress)
                progress.update(targets, self._note)
                if step % self.settings.checkpoint_every == 0:
                    self._save()
                stop.check()
            if self.guard.steps:
                self._log(progress)
            with progress.paused():
                self._validate(validate, progress, stop)
                self.state.finish_epoch()
                self._save()

    def _update(self, batch: Batch) -> tf.Tensor:
        """One step; the number of its targets."""
        with tf.GradientTape() as tape:
            losses, count = self.generator.losses_of(batch, self.generator.draws)
            total = self.generator.total(losses)
        variables = self.generator.trainable_variables
        norm = self.optimizer.apply_gradients(list(zip(tape.gradient(total, variables), variables, strict=True)))
        self.guard.watch(losses, norm)
        self.generator.draws.assign_add(1)
        return count

    def _batch(self, sequences: Sequences, rows: np.ndarray) -> Batch:
        return {name: tf.constant(value) for name, value in sequences.batch(rows, self.settings.batch_sequences).items()}

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        """Of an epoch in its own order, from number `skip` on."""
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.data.train))
        for place in range(skip, self.steps_per_epoch):
            yield self._batch(self.data.train, order[place * self.settings.batch_sequences :][: self.settings.batch_sequences])

    def _validate(self, losses_of: Any, progress: Progress, stop: StopRequest) -> None:
        """Mean losses over all targets of the validation split, each batch with negatives of its own, the same at every validation."""
        found = self.data.validation
        if found is None:
            return
        total, count, size = np.zeros(len(LOSSES)), 0, self.settings.batch_sequences
        for place in range(0, len(found), size):
            stop.check()
            batch = self._batch(found, np.arange(place, min(place + size, len(found))))
            losses, targets = losses_of(batch, tf.constant(-1 - place, tf.int64))
            total, count = total + losses.numpy() * int(targets), count + int(targets)
        values = dict(zip(LOSSES, map(float, total / max(count, 1)), strict=True))
        self.history.validation(self._step, self._epoch + 1, values)
        shown = " ".join(f"{name} {value:.4f}" for name, value in values.items())
        progress.say(f"epoch {self._epoch + 1}/{self.settings.epochs}: validation loss {shown}")

    def _save(self) -> None:
        self._check()
        self.state.save()

    def _check(self) -> None:
        bad = self.guard.bad_step()
        if bad is None:
            return
        last, step = self.state.latest_prefix, self._step - self.guard.steps + bad.place + 1
        raise CvrError(
            f"{bad.describe(LOSSES)} at step {step}; {f'checkpoint {last} is intact' if last else 'no checkpoint was written yet'}; "
            "lower --learning_rate or raise --temperature in a new --output"
        )

    def _log(self, progress: Progress) -> None:
        self._check()
        rates = {"learning_rate": float(self.schedule(self._step)), "gradient_norm": self.guard.gradient_norm}
        losses = dict(zip(LOSSES, map(float, self.guard.take()), strict=True))
        speed = {"targets_per_second": progress.items_per_second}
        self.history.train(self._step, self._epoch + 1, losses, {**rates, **speed})
        self._note = "loss " + " ".join(f"{name} {value:.4f}" for name, value in losses.items())
