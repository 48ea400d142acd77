"""Distillation: a student that learns from its labels and from a teacher's logits, by task, item and list.

The teacher's logit of an item is z_T, the student's z_S, t the temperature. Of a list (k_i below is of item i, sums are over its items)

    bce       sum_i k_i,      k_i = - p_i log q_i - (1 - p_i) log(1 - q_i),      p = sigma(z_T / t), q = sigma(z_S / t)     PAPERS 3.8
    mse       sum_i k_i,      k_i = (z_T - z_S)^2                                                                         PAPERS 3.10
    softmax   - sum_i p_i log q_i,                      p = softmax(z_T / t), q = softmax(z_S / t) in the list

is averaged over the lists of a batch, as the losses of the tasks are. The student's loss is its own plus, for each task,

    weight t^2 KD.      d KD / d z_S shrinks as 1 / t^2, so that the weight means the same at any temperature:
    t^2 d KD / d z_S -> (z_S - z_T) / 4 (bce) and (z_S - z_T) / L (softmax in a list of L items) for large t;      2 (z_S - z_T) for mse

**Centring.** A model that is trained with the listwise softmax is free to add any constant to the logits of a list, so the level of its
logits is noise: sigma(z_T) of one item says nothing. Therefore bce and mse are of logits less their mean in the list, the student's and
the teacher's, which is all that the ranking knows; then no shift of a list changes the loss, and its gradient in a list sums to 0. Only
where both were trained with the same loss that gives logits a level (`Loss.fixes_level`) are logits taken as they are: there the level is
knowledge.

What cannot teach counts exactly 0, value and gradient: padding, padding lists, and a list of one item wherever logits have no level.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from cvr.data import Batch
from cvr.errors import CvrError
from cvr.guard import LossGuard
from cvr.layers.mmoe import gate_use
from cvr.losses import Loss, listwise_losses, to_lists
from cvr.optimizers import RankerOptimizer
from cvr.ranker import Ranker
from cvr.step import Outcome, TrainingStep

DISTILL_LOSSES = ("bce", "mse", "softmax")
_ABSENT = -1e30
"""A log-score that adds exactly 0 to a sum of exponentials."""


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How a student is taught: the loss by name, its weight and temperature; with `both` the gradient reaches the teacher, too.

    Raises CvrError for values that mean nothing.
    """

    loss: str = "bce"
    weight: float = 1.0
    temperature: float = 1.0
    both: bool = False

    def __post_init__(self) -> None:
        if self.loss not in DISTILL_LOSSES:
            raise CvrError(f"--distill_loss={self.loss}: there are {', '.join(DISTILL_LOSSES)}")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise CvrError(f"--distill_weight={self.weight} must be at least 0")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise CvrError(f"--distill_temperature={self.temperature} must be above 0")
        if self.loss == "mse" and self.temperature != 1.0:
            raise CvrError(
                f"--distill_temperature={self.temperature:g} with --distill_loss=mse: t^2 (z_T / t - z_S / t)^2 is the same for every t; "
                "leave it out"
            )

    def describe(self) -> str:
        """For a terminal."""
        stopped = "both learn from it" if self.both else "the student learns from it"
        heat = "" if self.loss == "mse" else f" at temperature {self.temperature:g}"
        return f"{self.loss}{heat}, added {self.factor:g} times; {stopped}"

    @property
    def factor(self) -> float:
        """What a task's distillation loss is multiplied with: weight t^2."""
        return self.weight * self.temperature**2


def centre_all(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Logits `[B, L, T]` less their list's mean over the real items of mask `[B, L, 1]`, 0 at padding; the mean has its gradient."""
    total = tf.reduce_sum(logits * mask, axis=1, keepdims=True)
    return (logits - tf.math.divide_no_nan(total, tf.reduce_sum(mask, axis=1, keepdims=True))) * mask


def distillation_losses(
    student: tf.Tensor, teacher: tf.Tensor, batch: Batch, max_list_size: int, how: Distillation, has_level: bool = False
) -> tf.Tensor:
    """The distillation loss of each task per real list of the batch, without weight and t^2: logits `[N, T]` -> float32 `[T]`.

    `has_level` says that both models' logits have the same level, so that they are not centred.
    """
    mask = to_lists(batch["item_mask"][:, None], batch, max_list_size, 0.0)
    z_s, z_t = (to_lists(tf.cast(z, tf.float32), batch, max_list_size, 0.0) / how.temperature for z in (student, teacher))
    if not has_level or how.loss == "softmax":
        z_s, z_t = centre_all(z_s, mask), centre_all(z_t, mask)
        mask *= tf.cast(tf.reduce_sum(mask, axis=1, keepdims=True) > 1.0, mask.dtype)
    if how.loss == "bce":
        values = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.sigmoid(z_t), logits=z_s)
    elif how.loss == "mse":
        values = tf.square(z_t - z_s)
    else:
        values = -tf.exp(_log_softmax(z_t, mask)) * _log_softmax(z_s, mask)
    lists = tf.reduce_sum(tf.cast(batch["list_size"] > 0, tf.float32))
    return tf.reduce_sum(values * mask, axis=[0, 1]) / tf.maximum(lists, 1.0)


def _log_softmax(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Over the items of a list `[B, L, T]`; 0 at padding, whose terms the caller leaves out."""
    log_sum = tf.reduce_logsumexp(tf.where(mask > 0, logits, _ABSENT), axis=1, keepdims=True)
    return tf.where(mask > 0, logits - log_sum, 0.0)


def same_level(first: Loss, second: Loss) -> bool:
    """Whether logits that were trained with one loss have the level of those that were trained with the other."""
    if not first.fixes_level or first.name != second.name:
        return False
    return first.name != "calibrated_softmax" or first.anchor_label == second.anchor_label


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A ranker that teaches, the loss that its logits come from, whether it is trained beside the student, and how it teaches."""

    ranker: Ranker
    loss: Loss
    trains: bool
    how: Distillation

    def losses(self, student: tf.Tensor, logits: tf.Tensor, batch: Batch, max_list_size: int, loss: Loss) -> tuple[tf.Tensor, tf.Tensor]:
        """(student's logits, this teacher's `[N, T]`, the student's loss) -> the teacher's own losses and those of distillation `[T]`.

        The latter's gradient stops before the teacher's logits, unless `how.both`.
        """
        target = logits if self.how.both else tf.stop_gradient(logits)
        has_level = same_level(loss, self.loss)
        return (
            listwise_losses(logits, batch, max_list_size, self.loss),
            distillation_losses(student, target, batch, max_list_size, self.how, has_level),
        )


class DistillingStep(TrainingStep):
    """A training step of a student and, where it is trained beside, of its teacher, each with an optimizer and a clip of its own.

        L = L_S + weight t^2 KD( z_T, z_S )  [ + L_T of a teacher that is trained ],      summed over tasks

    The teacher's gradient is that of L_T alone (`Teacher.losses`), so it learns to the bit what it would learn without a student. A
    teacher that is finished scores as in serving, without dropout; one that is trained gives the logits of its own training step.
    """

    def __init__(self, plain: TrainingStep, teacher: Teacher, teacher_optimizer: RankerOptimizer | None = None) -> None:
        super().__init__(plain.ranker, plain.optimizer, plain.guard, plain.max_list_size, plain.loss)
        assert teacher.trains == (teacher_optimizer is not None)
        self.teacher, self.teacher_optimizer = teacher, teacher_optimizer
        self._names = [f"{kind}/{task}" for kind in ("teacher_loss", "distillation") for task in self.ranker.task_names]
        self.teacher_guard = LossGuard(len(self._names))

    def update(self, batch: Batch) -> Outcome:
        """Trains on one batch."""
        teacher, size = self.teacher, self.max_list_size
        known = None if teacher.trains else teacher.ranker(batch, training=False)
        with tf.GradientTape() as tape:
            logits, gates = self.ranker(batch, training=True, with_gates=True)
            losses = listwise_losses(logits, batch, size, self.loss)
            taught = teacher.ranker(batch, training=True) if known is None else known
            teacher_losses, distilled = teacher.losses(logits, taught, batch, size, self.loss)
            total = tf.reduce_sum(losses) + sum(self.ranker.losses) + teacher.how.factor * tf.reduce_sum(distilled)
            if teacher.trains:
                total += tf.reduce_sum(teacher_losses) + sum(teacher.ranker.losses)
        learners = [(self.ranker, self.optimizer)]
        if self.teacher_optimizer is not None:
            learners.append((teacher.ranker, self.teacher_optimizer))
        variables = [ranker.trainable_variables for ranker, _ in learners]
        gradients = tape.gradient(total, variables)
        norms = [
            optimizer.apply_gradients(list(zip(own, of, strict=True)))
            for (_, optimizer), own, of in zip(learners, gradients, variables, strict=True)
        ]
        self.teacher_guard.watch(tf.concat([teacher_losses, distilled], axis=0), norms[-1] if teacher.trains else tf.zeros([]))
        return Outcome(losses, norms[0], gate_use(gates, batch["item_mask"]))

    @property
    def guards(self) -> list[tuple[LossGuard, Sequence[str]]]:
        """The student's, then that of the teacher's and the distillation's losses."""
        return [*super().guards, (self.teacher_guard, self._names)]

    @property
    def state(self) -> dict[str, tf.Module]:
        """And, of a teacher that is trained, its weights and its optimizer."""
        trained = {"teacher": self.teacher.ranker, "teacher_optimizer": self.teacher_optimizer} if self.teacher.trains else {}
        return {**super().state, "teacher_guard": self.teacher_guard, **trained}

    def take_values(self) -> dict[str, float]:
        """And `teacher_loss/<task>`, `distillation/<task>`, means since the last call, and `teacher_gradient_norm` where it is trained."""
        norm = {"teacher_gradient_norm": self.teacher_guard.gradient_norm} if self.teacher.trains else {}
        found = dict(zip(self._names, map(float, self.teacher_guard.take()), strict=True))
        return {**super().take_values(), **norm, **found}
