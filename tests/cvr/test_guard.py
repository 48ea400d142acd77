"""A step that goes wrong is named exactly, with its batch, and no checkpoint is written after it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.checkpoints import damage
from cvr.guard import LossGuard
from tests.cvr.jobs import message, small_model, train_job
from tests.support import random_columns, tiny_spec, write_lists

SPEC = """
dataset: raw
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  price: {kind: numerical, level: item, from: item.price, transforms: [identity]}
  hour: {kind: numerical, level: context, from: impression.hour}
"""


def _watched(*steps: tuple[list[float], float]) -> LossGuard:
    guard = LossGuard(2)
    watch = tf.function(guard.watch)
    for losses, norm in steps:
        watch(tf.constant(losses), tf.constant(norm))
    return guard


def test_means_since_the_last_take() -> None:
    guard = _watched(([1.0, 4.0], 3.0), ([2.0, 8.0], 5.0))
    assert guard.steps == 2 and guard.gradient_norm == pytest.approx(4.0)
    assert guard.take().tolist() == [1.5, 6.0]
    assert guard.steps == 0 and guard.bad_step() is None


@pytest.mark.parametrize(
    ("losses", "norm", "said"),
    [
        ([np.nan, 0.5], 1.0, "the loss is not finite (click nan, purchase 0.5)"),
        ([np.inf, 0.5], 1.0, "the loss is not finite (click inf, purchase 0.5)"),
        ([0.5, 0.25], np.inf, "the gradients are not finite (loss click 0.5, purchase 0.25)"),
        ([700.0, 51.0], 1.0, "the loss exploded (click 700, purchase 51, more than 100 times that of the first step)"),
    ],
)
def test_the_first_bad_step_is_remembered(losses: list[float], norm: float, said: str) -> None:
    """The first step's loss is 5 + 2.5, so what is above 750 exploded; later steps, good or bad, change nothing."""
    guard = _watched(([5.0, 2.5], 1.0))
    guard.take()
    for values, size in (([700.0, 49.0], 1.0), (losses, norm), ([1.0, 1.0], 1.0), ([np.nan, np.nan], np.nan)):
        guard.watch(tf.constant(values), tf.constant(size))
    bad = guard.bad_step()
    assert bad is not None and bad.place == 1
    assert bad.describe(["click", "purchase"]) == said


def test_an_impossible_price_is_named_and_the_last_checkpoint_is_good(tmp_path: Path) -> None:
    """A price of 3e38 that no transform tames, in the list "1-7"."""
    spec = tiny_spec(SPEC)
    parts = [random_columns(spec, 30, seed) for seed in (1, 2)]
    row = int(parts[0].lengths[:7].sum())
    parts[0].item_num[row, 0] = 3e38
    parts[0].labels[row] = 1
    write_lists(tmp_path / "lists", {"train": parts}, SPEC)
    arguments = (f"--lists={tmp_path / 'lists'}", f"--output={tmp_path / 'run'}", "--validation_split=", "--checkpoint_every=1")
    text = message(train_job, *arguments, *small_model("--epochs=9"))
    found = re.search(r"not finite .* at step (\d+) \(epoch (\d+), batch (\d+)\): the batch holds (\d+) lists, search ids", text)
    assert found and "its greatest number is 3e+38, feature 'price' in list 1-7" in text
    step, epoch, batch, lists = map(int, found.groups())
    assert epoch == 1 and batch == step and lists < 60
    newest = max(int(path.stem[5:]) for path in (tmp_path / "run" / "checkpoints").glob("*.index"))
    assert newest == step - 1 and not damage(str(tmp_path / "run" / "checkpoints" / f"ckpt-{newest}"))
    assert f"ckpt-{newest} is intact" in text
