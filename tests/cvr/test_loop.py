"""The training loop's bookkeeping: expected steps, a loss that is not finite, and a history without repetitions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cvr.data import Budget, dummy_batch, split_files
from cvr.errors import CvrError
from cvr.loop import Trainer
from cvr.manifest import load_manifest
from cvr.ranker import RankerConfig, build_ranker
from cvr.settings import Settings, TrainingData
from tests.support import LEAN, tiny_spec

FACTORS = {"cross_width": 4, "deep_width": 4, "parallel_blocks": 1}


@pytest.fixture
def trainer(lists: Path, tmp_path: Path) -> Trainer:
    manifest, spec = load_manifest(lists), tiny_spec(LEAN)
    split = manifest.split("train")
    budget = Budget.for_manifest(manifest, ["train"], 24)
    files = split_files(lists, manifest, ["train"])
    data = TrainingData(files, [], budget, budget, split.items, split.lists, split.max_list_size)
    ranker = build_ranker(spec, RankerConfig("masknet", FACTORS, experts=1, expert_width=4), dummy_batch(spec))
    return Trainer(ranker, data, Settings(epochs=3, learning_rate=0.1, table_learning_rate=0.2), tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(trainer: Trainer) -> None:
    trainer.ranker.head.logit_kernel.assign(np.full(trainer.ranker.head.logit_kernel.shape, np.nan))
    with pytest.raises(CvrError, match=r"the loss is not finite \(purchase nan.* at step 1 \(epoch 1, batch 1\).*lower --learning_rate"):
        trainer.run()


def test_expected_steps() -> None:
    """Lists of 4 items on average: a batch of 22 items stays half a list below its budget."""
    data = TrainingData([], [], Budget(22, 9), Budget(22, 9), items=400, lists=100, max_list_size=9)
    assert data.steps_per_epoch == 20


def test_the_schedule_covers_all_epochs(trainer: Trainer) -> None:
    steps = trainer.data.steps_per_epoch
    assert trainer.total_steps == 3 * steps
    assert float(trainer.schedule(trainer.total_steps)) == pytest.approx(0.0, abs=1e-8)


def test_what_is_done_again_leaves_the_history(trainer: Trainer) -> None:
    rows = [
        {"kind": "train", "step": 5, "epoch": 1},
        {"kind": "validation", "step": 6, "epoch": 1},
        {"kind": "train", "step": 12, "epoch": 2},
        {"kind": "validation", "step": 12, "epoch": 2},  # the run was lost before this epoch was marked as done
        {"kind": "train", "step": 13, "epoch": 3},
    ]
    path = trainer.folder / "history.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trainer.history.go_on_from(12, 1)
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[:3]
