"""The training loop: steps, validation after each epoch, checkpoints, and what is logged of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr.checkpoints import TrainingState
from cvr.data import Batch, Shuffle, batches
from cvr.errors import CvrError
from cvr.history import History
from cvr.losses import listwise_losses
from cvr.optimizers import make_optimizer
from cvr.progress import Progress
from cvr.ranker import Ranker
from cvr.reading import iterate
from cvr.schedules import WarmupCosine
from cvr.scoring import compile_scorer, mean_average_precision, score_files
from cvr.settings import Settings, TrainingData

LOG_EVERY = 20


class Trainer:
    """Trains one ranker in one folder; `run` resumes from the newest checkpoint there."""

    def __init__(self, ranker: Ranker, data: TrainingData, settings: Settings, folder: Path) -> None:
        self.ranker, self.data, self.settings, self.folder = ranker, data, settings, folder
        self.total_steps = data.steps_per_epoch * settings.epochs
        warmup = min(int(settings.warmup_share * data.steps_per_epoch), self.total_steps - 1)
        self.schedule = WarmupCosine(settings.learning_rate, warmup, self.total_steps)
        self.optimizer = make_optimizer(
            self._table_variables,
            self._dense_variables,
            self.schedule,
            WarmupCosine(settings.table_learning_rate, warmup, self.total_steps),
            settings.weight_decay,
            settings.row_decay,
        )
        self.state = TrainingState(folder, ranker, self.optimizer, settings.keep_checkpoints)
        self._scorer = compile_scorer(ranker)
        self.history = History(folder)
        self._step: Callable[[Batch], tf.Tensor] | None = None
        self._note = ""

    def _table_variables(self) -> Sequence[tf.Variable]:
        return self.ranker.extraction.table_variables

    def _dense_variables(self) -> Sequence[tf.Variable]:
        return self.ranker.dense_variables

    def _compile_step(self, dataset: tf.data.Dataset) -> Callable[[Batch], tf.Tensor]:
        """The step as one graph, traced once: the signature leaves open what differs between batches, the number of bagged ids."""
        return tf.function(self._train_step, autograph=False, input_signature=[dataset.element_spec])

    def _train_step(self, batch: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = listwise_losses(self.ranker(batch, training=True), batch, self.data.max_list_size)
            total = tf.reduce_sum(losses) + sum(self.ranker.losses)  # the penalties that the backbone adds in training
        variables = self.ranker.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        return losses

    def run(self) -> dict[str, Any]:
        """Trains to the end of the last epoch; returns speed, steps and the last validation.

        Raises CvrError on a loss that is not finite.
        """
        if self.state.restore():
            print(f"resuming at step {int(self.state.step.numpy())} (epoch {int(self.state.epoch.numpy()) + 1})", flush=True)
        self.history.go_on_from(int(self.state.step.numpy()), int(self.state.epoch.numpy()))
        progress = Progress(self.total_steps, int(self.state.step.numpy()))
        started, validation = time.monotonic(), {}
        try:
            for epoch in range(int(self.state.epoch.numpy()), self.settings.epochs):
                self._epoch(epoch, progress)
                with progress.paused():
                    validation = self._validate(epoch, progress)
                    self.state.epoch.assign(epoch + 1)
                    self.state.batch.assign(0)
                    self.state.save()
        finally:
            progress.close()
        if not validation:
            validation = self.history.last_validation()
        return {
            "steps": int(self.state.step.numpy()),
            "items_per_second_train": progress.items_per_second,
            "seconds_train": time.monotonic() - started,
            "validation": validation,
        }

    def _epoch(self, epoch: int, progress: Progress) -> None:
        shuffle = Shuffle(seed=self.settings.seed * 1_000_003 + epoch, buffer=self.settings.shuffle_buffer)
        dataset = batches(self.ranker.spec, self.data.train, self.data.budget, shuffle)
        self._step = self._step or self._compile_step(dataset)
        pending: list[tf.Tensor] = []
        rest = dataset.skip(int(self.state.batch.numpy()))
        for batch in iterate(rest, self.ranker.spec, self.data.train):
            pending.append(self._step(batch))
            self.state.batch.assign_add(1)
            self.state.step.assign_add(1)
            step = int(self.state.step.numpy())
            if step % LOG_EVERY == 0 or step == 1:
                self._note = self._log_train(epoch, step, pending, progress)
                pending = []
            progress.update(int(tf.reduce_sum(batch["list_size"])), self._note)
            if step % self.settings.checkpoint_every == 0:
                self.state.save()
        if pending:
            self._log_train(epoch, int(self.state.step.numpy()), pending, progress)

    def _log_train(self, epoch: int, step: int, losses: Sequence[tf.Tensor], progress: Progress) -> str:
        mean = np.mean([loss.numpy() for loss in losses], axis=0)
        if not np.all(np.isfinite(mean)):
            raise CvrError(
                f"the loss is not finite near step {step} (epoch {epoch + 1}, tasks {', '.join(self.ranker.task_names)}: {mean}); "
                "the last checkpoint is intact; lower --learning_rate, or look for extreme values in the manifest's statistics"
            )
        by_task = dict(zip(self.ranker.task_names, map(float, mean), strict=True))
        values = {"learning_rate": float(self.schedule(step)), "items_per_second": progress.items_per_second}
        self.history.train(step, epoch + 1, by_task, values)
        return "loss " + " ".join(f"{task} {value:.4f}" for task, value in by_task.items())

    def _validate(self, epoch: int, progress: Progress) -> dict[str, float]:
        if not self.data.validation:
            return {}
        scored = score_files(self._scorer, self.ranker.spec, self.data.validation, self.data.validation_budget)
        values = mean_average_precision(scored, self.ranker.task_names)
        self.history.validation(int(self.state.step.numpy()), epoch + 1, values)
        shown = " ".join(f"{task} {value:.4f}" for task, value in values.items())
        progress.say(f"epoch {epoch + 1}/{self.settings.epochs}: validation mAP {shown}")
        if self.settings.keep_best:
            self.state.save_best(values.get(self.ranker.spec.primary_task, -1.0))
        return values
