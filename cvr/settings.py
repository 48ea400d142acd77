"""What a training run is told: how to train, and on which files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from cvr.data import Budget
from cvr.losses import Loss
from cvr.optimizers import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train. Rates are peaks of the warm-up and cosine schedule; `warmup_share` is a share of the first epoch.

    `patience` is in epochs without a better validation, 0 for no end before the last; `profile_steps` are the first and the last step.
    """

    epochs: int
    learning_rate: float
    table_learning_rate: float
    warmup_share: float = 0.1
    weight_decay: float = 0.0
    row_decay: float = 0.0
    table_optimizer: str = "lazy_adam"
    clip_norm: float = 0.0
    jit_compile: bool = False
    loss: str = "softmax"
    anchor_label: float = 1.0
    listwise_share: float = 0.5
    seed: int = 0
    shuffle_buffer: int = 20_000
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    keep_best: bool = False
    patience: int = 0
    histograms_every: int = 0
    profile_steps: tuple[int, int] | None = None

    @property
    def objective(self) -> Loss:
        """The loss of each task."""
        return Loss(self.loss, self.anchor_label, self.listwise_share)

    @property
    def optimizer(self) -> OptimizerConfig:
        """What the optimizer is made of, beside its rates."""
        return OptimizerConfig(self.table_optimizer, self.weight_decay, self.row_decay, self.clip_norm, by_sorting=self.jit_compile)


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Record files of the training lists and of the validation lists (may be none), and the batch size."""

    train: Sequence[str]
    validation: Sequence[str]
    budget: Budget
    validation_budget: Budget
    items: int
    lists: int
    max_list_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Expected batches of a pass: the budget less what the greedy packing leaves empty, half a list on average."""
        return max(1, math.ceil(self.items / (self.budget.items - 0.5 * self.items / self.lists)))
