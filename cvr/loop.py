"""The training loop: steps, validation after each epoch, checkpoints, and what is logged of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from cvr.checkpoints import TrainingState
from cvr.data import Batch, Shuffle
from cvr.distillation import DistillingStep, Teacher
from cvr.errors import CvrError
from cvr.guard import LossGuard, describe_batch
from cvr.history import History, NoHistory
from cvr.observers import Histograms, StepProfile
from cvr.optimizers import RankerOptimizer, make_optimizer
from cvr.placement import Placement, Run
from cvr.progress import Progress
from cvr.ranker import Ranker
from cvr.reading import iterate
from cvr.schedules import WarmupCosine
from cvr.scoring import compile_scorer, mean_average_precision, score_files
from cvr.settings import Settings, TrainingData
from cvr.step import TrainingStep
from cvr.stopping import Stopped, StopRequest, stop_on_signals

LOG_EVERY = 20


class Trainer:
    """Trains one ranker, by a teacher where there is one, in one folder; `run` resumes from the newest checkpoint there. `flops_per_item`
    are those of a training step."""

    def __init__(
        self,
        ranker: Ranker,
        data: TrainingData,
        settings: Settings,
        folder: Path,
        flops_per_item: float = 0.0,
        placement: Placement | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.ranker, self.data, self.settings, self.folder = ranker, data, settings, folder
        self.placement = placement or Placement()
        self.total_steps = data.steps_per_epoch * settings.epochs
        warmup = min(int(settings.warmup_share * data.steps_per_epoch), self.total_steps - 1)
        self.schedule = WarmupCosine(settings.learning_rate, warmup, self.total_steps)
        self._table_schedule = WarmupCosine(settings.table_learning_rate, warmup, self.total_steps)
        with self.placement.scope():
            self.optimizer = self._optimizer_of(ranker)
        self.guard = LossGuard(len(ranker.task_names))
        self.step: TrainingStep = TrainingStep(ranker, self.optimizer, self.guard, data.max_list_size, settings.objective)
        if teacher:
            self.step = DistillingStep(self.step, teacher, self._optimizer_of(teacher.ranker) if teacher.trains else None)
        self.state = TrainingState(folder, ranker, self.optimizer, settings.keep_checkpoints, **self.step.state)
        chief = self.placement.is_chief
        self.history = History(folder) if chief else NoHistory()
        self._scorer = compile_scorer(ranker)
        self._histograms = Histograms(ranker, folder, settings.histograms_every if chief else 0)
        self._profile = StepProfile(folder, settings.profile_steps if chief else None)
        self._flops_per_item = flops_per_item
        self._compiled: Run | None = None
        self._loss_note = self._map_note = ""

    def _optimizer_of(self, ranker: Ranker) -> RankerOptimizer:
        def tables() -> Sequence[tf.Variable]:
            return ranker.extraction.table_variables

        def dense() -> Sequence[tf.Variable]:
            return ranker.dense_variables

        return make_optimizer(tables, dense, self.schedule, self._table_schedule, self.settings.optimizer)

    def run(self, warm_start: Callable[[], None] | None = None) -> dict[str, Any]:
        """Trains to the end of the last epoch, or of patience; returns speed, steps and the last validation.

        `warm_start` loads weights into the ranker; it is called where there is no checkpoint to go on from, and is validated as epoch 0.

        Raises CvrError on a loss or gradient that is not finite, an exploding loss, or a disk that takes no more, and Stopped on Ctrl-C or
        SIGTERM; in all cases the last checkpoint is whole, and on Stopped it holds the last step.
        """
        if self._restore():
            print(f"resuming at step {self._steps_done} (epoch {self._epochs_done + 1})", flush=True)
        elif warm_start:
            warm_start()
        self.history.go_on_from(self._steps_done - self.guard.steps, self._epochs_done if self._steps_done else -1)
        progress = Progress(self.total_steps, self._steps_done, self._flops_per_item)
        started = time.monotonic()
        with stop_on_signals() as stop:
            try:
                self._train(progress, stop, validate_first=warm_start is not None)
            except Stopped:
                self._save()
                raise
            finally:
                self._profile.stop()
                progress.close()
        return {
            "steps": self._steps_done,
            "epochs_done": self._epochs_done,
            "items_per_second_train": progress.items_per_second,
            "input_wait_share": progress.input_wait_share,
            "seconds_train": time.monotonic() - started,
            "validation": self.history.last_validation(),
        }

    def _restore(self) -> bool:
        """Loads the newest checkpoint that the chief can read, if there is any."""
        number = int(self.placement.from_chief(self.state.newest() if self.placement.is_chief else 0))
        if number:
            self.state.load(number)
        return number > 0

    @property
    def _steps_done(self) -> int:
        return int(self.state.step.numpy())

    @property
    def _epochs_done(self) -> int:
        return int(self.state.epoch.numpy())

    def _train(self, progress: Progress, stop: StopRequest, validate_first: bool) -> None:
        if validate_first and not self._steps_done:
            self._validate(0, progress, stop)
        while self._epochs_done < self.settings.epochs and not self._out_of_patience():
            self._epoch(progress, stop)
            with progress.paused():
                self._validate(self._epochs_done + 1, progress, stop)
                self.state.finish_epoch()
                self._save()
        if self._epochs_done < self.settings.epochs:
            progress.say(f"no better validation in {self.settings.patience} epochs: stopped after epoch {self._epochs_done}")

    def _out_of_patience(self) -> bool:
        waited = self._epochs_done - int(self.state.best_epoch.numpy())
        return 0 < self.settings.patience <= waited

    def _dataset(self, epoch: int, skip: int, placement: Placement) -> tf.data.Dataset:
        """The training batches of an epoch, counted from 0, from number `skip` on, as a placement takes them."""
        shuffle = Shuffle(seed=self.settings.seed * 1_000_003 + epoch, buffer=self.settings.shuffle_buffer)
        budget = dataclasses.replace(self.data.budget, pad_bags=self.settings.jit_compile)
        return placement.dataset(self.ranker.spec, self.data, budget, shuffle, skip)

    def _epoch(self, progress: Progress, stop: StopRequest) -> None:
        epoch = self._epochs_done
        dataset = self._dataset(epoch, int(self.state.batch.numpy()), self.placement)
        self._compiled = self._compiled or self.placement.compile(self.step, dataset, self.settings.jit_compile)
        self._profile.after(self._steps_done)
        for batch in progress.waiting_for(iterate(dataset, self.ranker.spec, self.data.train)):
            items = self._compiled(batch)
            step = self.state.advance()
            if step % LOG_EVERY == 0 or step == 1:
                self._log(progress)
            progress.update(items, f"{self._loss_note}{self._map_note}")
            self._histograms.after(step)
            self._profile.after(step)
            if step % self.settings.checkpoint_every == 0:
                self._save()
            if step % self.placement.stop_every == 0:
                stop.check(self.placement.total)
        self.placement.settle()
        if self.guard.steps:
            self._log(progress)

    def _save(self) -> None:
        self._check_losses()
        if self.placement.is_chief:
            self.state.save()

    def _check_losses(self) -> None:
        self.placement.settle()
        found = [(names, bad) for guard, names in self.step.guards if (bad := guard.bad_step())]
        if not found:
            return
        first = min(bad.place for _, bad in found)
        wrong = " and ".join(bad.describe(names) for names, bad in found if bad.place == first)
        back = self.guard.steps - first - 1  # steps since
        step, epoch, place = self._steps_done - back, self._epochs_done, int(self.state.batch.numpy()) - back
        batch = next(iter(self._dataset(epoch, place - 1, Placement())))
        last = self.state.latest_prefix
        raise CvrError(
            f"{wrong} at step {step} (epoch {epoch + 1}, batch {place}): "
            f"{describe_batch(self.ranker.extraction, batch)}; "
            f"{f'checkpoint {last} is intact' if last else 'no checkpoint was written yet'}; "
            "correct such values in the logs, or lower --learning_rate in a new --output"
        )

    def _log(self, progress: Progress) -> None:
        self._check_losses()
        step = self._steps_done
        rates = {"learning_rate": float(self.schedule(step)), "gradient_norm": self.guard.gradient_norm}
        losses = dict(zip(self.ranker.task_names, map(float, self.guard.take()), strict=True))
        values = {**rates, **progress.values(), **self.step.take_values()}
        self.history.train(step, self._epochs_done + 1, losses, values)
        self._loss_note = "loss " + " ".join(f"{task} {value:.4f}" for task, value in losses.items())

    def _validate(self, epoch: int, progress: Progress, stop: StopRequest) -> None:
        """mAP after `epoch` epochs."""
        if not self.data.validation:
            return

        def scorer(batch: Batch) -> tf.Tensor:
            if self.placement.stop_every == 1:
                stop.check()
            return self._scorer(batch)

        scored = score_files(scorer, self.ranker.spec, self.data.validation, self.data.validation_budget)
        found = mean_average_precision(scored, self.ranker.task_names)
        values = {task: self.placement.from_chief(value) for task, value in found.items()}  # what patience goes by must be the same
        self.history.validation(self._steps_done, epoch, values)
        shown = " ".join(f"{task} {value:.4f}" for task, value in values.items())
        self._map_note = f"  mAP {shown}"
        progress.say(f"epoch {epoch}/{self.settings.epochs}: validation mAP {shown}")
        keep = self.placement.is_chief and (self.settings.keep_best or self.settings.patience > 0)
        self.state.note_validation(values.get(self.ranker.spec.primary_task, -1.0), epoch, keep)
