"""Training in bfloat16 and compiled by XLA, and what must stay float32 in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import dummy_batch
from cvr.precision import precision
from cvr.records import ListColumns
from cvr.runs import load_ranker
from tests.cvr.jobs import evaluate_job, small_model, train_job
from tests.support import random_columns, tiny_spec, write_lists

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


TASTE = """
dataset: taste
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  price: {kind: numerical, level: item, from: item.price, transforms: [log1p]}
  tag: {kind: categorical, level: item, from: item.tag, embedding: {buckets: 10, dim: 2}}
"""


def _taste(seed: int) -> ListColumns:
    """300 lists; bought is the item with the greatest cos(2 tag) + sin(2 log price) + Gumbel noise / 2."""
    columns, source = random_columns(tiny_spec(TASTE), 300, seed), np.random.default_rng(seed)
    count = len(columns.item)
    tag, columns.item_num[:, 0] = source.integers(0, 6, count), source.lognormal(1, 1, count)
    columns.cat["tag"][:] = 1000 + tag
    utility = np.cos(2.0 * tag) + np.sin(2 * np.log(columns.item_num[:, 0])) + 0.5 * source.gumbel(size=count)
    best = np.maximum.reduceat(utility, np.cumsum(columns.lengths) - columns.lengths)
    columns.labels[:, 0] = utility == np.repeat(best, columns.lengths)
    return columns


def test_bfloat16_costs_less_map_than_seeds_differ(tmp_path: Path) -> None:
    """Seeds 0 to 2 in both precisions, of a ranker that has learned something: an order by chance has .62."""
    write_lists(tmp_path / "lists", {"train": [_taste(1)], "validation": [_taste(2)]}, TASTE)
    found: dict[str, list[float]] = {"float32": [], "mixed_bfloat16": []}
    for name, values in found.items():
        for seed in range(3):
            output = tmp_path / f"{name}{seed}"
            flags = small_model(f"--precision={name}", f"--seed={seed}", "--epochs=4", "--batch_items=120")
            train_job(f"--lists={tmp_path / 'lists'}", f"--output={output}", *flags)
            values.append(json.loads((output / "run.json").read_text())["validation"]["purchase"])
    exact, rounded = (np.array(values) for values in found.values())
    assert min(exact.min(), rounded.min()) > 0.7 and (exact != rounded).any()
    assert abs(rounded.mean() - exact.mean()) < exact.std(ddof=1)
