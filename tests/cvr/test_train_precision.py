"""Training in bfloat16 and compiled by XLA, and what must stay float32 in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import dummy_batch
from cvr.precision import precision
from cvr.runs import load_ranker
from tests.cvr.jobs import evaluate_job, small_model, train_job

FLAGS = ("--epochs=1", "--validation_split=", "--table_optimizer=rowwise_adagrad", "--clip_norm=0.5")


@pytest.fixture(scope="module")
def runs(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same training plain, compiled, and in bfloat16."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {"plain": (), "jit": ("--jit_compile",), "bfloat16": ("--precision=mixed_bfloat16",)}
    for name, extra in kinds.items():
        train_job(f"--lists={lists}", f"--output={folder / name}", *small_model(*FLAGS, *extra))
    return {name: folder / name for name in kinds}


def _rows(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def _losses(run: Path) -> np.ndarray:
    return np.array([list(row["loss"].values()) for row in _rows(run)])


def _norms(run: Path) -> np.ndarray:
    return np.array([row["gradient_norm"] for row in _rows(run)])


def test_compiled_training_has_the_same_losses_and_norms(runs: dict[str, Path]) -> None:
    np.testing.assert_allclose(_losses(runs["jit"]), _losses(runs["plain"]), rtol=1e-4)
    np.testing.assert_allclose(_norms(runs["jit"]), _norms(runs["plain"]), rtol=1e-3)
    assert (_norms(runs["plain"]) > 0.5).any()  # of what comes before the clip


def test_bfloat16_is_near_and_is_used(runs: dict[str, Path]) -> None:
    plain, rounded = _losses(runs["plain"]), _losses(runs["bfloat16"])
    np.testing.assert_allclose(rounded, plain, rtol=0.03)
    assert (rounded != plain).any()


def test_a_loaded_ranker_computes_as_it_was_trained(runs: dict[str, Path]) -> None:
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    ranker, run = load_ranker(runs["bfloat16"])
    assert run.info["flags"]["precision"] == ranker.config.precision == "mixed_bfloat16"
    context, items = ranker.extract(dummy_batch(run.spec))
    hidden = ranker.hidden(ranker.project_context(context), items)
    assert (context.dtype, items.dtype, hidden.dtype) == (tf.bfloat16,) * 3
    assert ranker(dummy_batch(run.spec)).dtype == tf.float32
    assert {variable.dtype for variable in ranker.trainable_variables} == {tf.float32}
    assert load_ranker(runs["plain"])[0].extract(dummy_batch(run.spec))[0].dtype == tf.float32


def test_optimizer_state_is_float32(runs: dict[str, Path]) -> None:
    reader = tf.train.load_checkpoint(load_ranker(runs["bfloat16"])[1].checkpoint)
    types = {name: dtype for name, dtype in reader.get_variable_to_dtype_map().items() if name.startswith("optimizer")}
    assert len(types) > 10
    assert set(types.values()) <= {tf.float32, tf.int64}


def test_a_bfloat16_run_is_evaluated(runs: dict[str, Path], lists: Path, tmp_path: Path) -> None:
    assert evaluate_job(f"--run={runs['bfloat16']}", f"--lists={lists}", f"--output={tmp_path / 'e'}", "--bootstrap=10") == 0


def test_the_policy_ends_with_the_block() -> None:
    with pytest.raises(RuntimeError), precision("mixed_bfloat16"):
        assert tf.keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise RuntimeError
    assert tf.keras.layers.Dense(1).compute_dtype == "float32"
