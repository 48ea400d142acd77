"""ETA in a ranker: training, weights that stay, exports, and histories that are empty, unseen, short or long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr import transforms
from cvr.data import Batch, dummy_batch
from cvr.errors import CvrError
from cvr.extraction import Extraction
from cvr.optimizers import make_optimizer
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.schema import FeatureSpec, load_spec
from export.batching import Batching
from export.signatures import ServingModule
from tests.backbones.test_backbones import SMALL
from tests.support import LEAN, batch_of, random_columns, tiny_spec


def _spec(factors: str = "bits: 20, top_k: 2, recent: 1, heads: 1", length: int = 4, table: str = "{buckets: 20, dim: 2}") -> FeatureSpec:
    history = f"length: {length}}}, encoder: {{name: eta, {factors}}}, embedding: {table}"
    return tiny_spec(LEAN.replace("length: 4}, embedding: {buckets: 20, dim: 2}", history))


def _ranker(spec: FeatureSpec) -> Ranker:
    return build_ranker(spec, RankerConfig("masknet", SMALL["masknet"], experts=2, expert_width=4, tower_width=0), dummy_batch(spec))


def _directions(ranker: Ranker) -> tf.Variable:
    (found,) = (variable for variable in ranker.variables if "directions" in variable.name)
    return found


@pytest.mark.parametrize("factors", ["bits: 0", "heads: 0", "top_k: -1", "recent: -1", "seed: -1", "top_k: 0, recent: 0"])
def test_wrong_factors(factors: str) -> None:
    with pytest.raises(CvrError, match="features.recent.encoder: eta: "):
        Extraction(_spec(factors))


def test_training_moves_what_it_learns_and_never_the_directions() -> None:
    """Codes follow the table, which moves; the directions do not, whatever the decay."""
    spec = _spec()
    ranker, batch = _ranker(spec), batch_of(spec, random_columns(spec, 30, seed=2))
    rate = tf.keras.optimizers.schedules.PiecewiseConstantDecay([10], [0.01, 0.01])
    optimizer = make_optimizer(lambda: ranker.extraction.table_variables, lambda: ranker.dense_variables, rate, rate)
    before = [variable.numpy() for variable in (_directions(ranker), ranker.extraction.tables["recent"].table)]
    for _ in range(2):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(ranker(batch, training=True) ** 2)
        gradients = tape.gradient(total, ranker.trainable_variables)
        optimizer.apply_gradients(list(zip(gradients, ranker.trainable_variables, strict=True)))
    assert all(gradient is not None for gradient in gradients)
    np.testing.assert_array_equal(_directions(ranker), before[0])
    assert np.abs(ranker.extraction.tables["recent"].table - before[1]).max() > 0
    assert _directions(ranker).ref() not in {variable.ref() for variable in ranker.trainable_variables}


def test_directions_are_in_checkpoints_and_exports(tmp_path: Path) -> None:
    """Bit for bit, and read from there: a model that restores other directions scores with them."""
    spec = _spec()
    ranker, batch = _ranker(spec), batch_of(spec, random_columns(spec, 30, seed=2))
    changed = np.random.default_rng(9).normal(0, 1, _directions(ranker).shape).astype(np.float32)
    _directions(ranker).assign(changed)
    expected = ranker(batch).numpy()
    path = tf.train.Checkpoint(model=ranker).write(f"{tmp_path}/ckpt")
    other = _ranker(spec)
    tf.train.Checkpoint(model=other).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(_directions(other), changed)
    np.testing.assert_array_equal(other(batch), expected)
    exported = ServingModule(spec, other, Batching())
    assert any(variable is _directions(other) for variable in exported.ranker_variables)
    tf.saved_model.save(exported, f"{tmp_path}/model")
    reader = tf.train.load_checkpoint(f"{tmp_path}/model/variables/variables")
    stored = [reader.get_tensor(name) for name, shape in reader.get_variable_to_shape_map().items() if shape == list(changed.shape)]
    assert any(np.array_equal(value, changed) for value in stored)


def _encoded(spec: FeatureSpec, changes: Batch) -> np.ndarray:
    """The history's columns of the items of a list of two."""
    tf.keras.utils.set_random_seed(0)
    extraction = Extraction(spec)
    batch = dummy_batch(spec, 1, 2)
    extraction(batch)
    batch = {**batch, "item": tf.constant([50, 60], tf.int64), **changes}
    level, places = extraction.columns(batch)["recent"]
    assert level == "item"
    return extraction(batch)[1].numpy()[:, places]


def test_empty_unseen_reserved_and_short_histories_differ() -> None:
    """An empty history gives both attentions' empty vectors to every item; unseen, missing and unknown items are read like any event."""
    spec = _spec("bits: 20, top_k: 3, recent: 2, heads: 1")
    found = []
    for item in (transforms.PAD, transforms.UNSEEN, transforms.EMPTY, transforms.UNKNOWN, 50):
        action = transforms.PAD if item == transforms.PAD else transforms.UNSEEN
        parts = {name: tf.constant([[value, 0, 0, 0]], tf.int64) for name, value in (("item", item), ("action", action))}
        found.append(_encoded(spec, {f"seq/recent/{name}": value for name, value in parts.items()}))
    assert all(np.isfinite(one).all() and one.shape == (2, 4) for one in found)
    np.testing.assert_array_equal(found[0][0], found[0][1])
    distances = [np.abs(one - other).max() for place, one in enumerate(found) for other in found[:place]]
    assert min(distances) > 1e-4


def test_it_finds_the_item_itself_in_a_long_history() -> None:
    """1,000 events, the item's own the oldest: `recent` does not see it, ETA does, as an event at distance 0."""
    spec = _spec("bits: 64, top_k: 4, recent: 2, heads: 1", 1000, "{buckets: 5000, dim: 8}")
    history = np.arange(100, 1100)[None]
    parts = {"action": np.full((1, 1000), transforms.FIRST_ID), "item": history}
    tensors = {f"seq/recent/{name}": tf.constant(value, tf.int64) for name, value in parts.items()}
    without = _encoded(spec, tensors)
    history[0, -1] = 50
    own = _encoded(spec, {**tensors, "seq/recent/item": tf.constant(history, tf.int64)})
    assert np.abs(own[0, :8] - without[0, :8]).max() > 1e-3
    np.testing.assert_allclose(own[0, 8:], without[0, 8:], rtol=1e-5, atol=1e-6)


def test_the_spec_with_vectors_of_hotels_reads_the_lists_of_the_other(project_root: Path) -> None:
    """It differs in the table of the history alone."""
    plain, items = (load_spec(project_root / f"configs/features/{name}.yaml") for name in ("trivago2019", "trivago2019_items"))
    assert plain.fingerprint == items.fingerprint
    differ = [name for name, feature in items.features.items() if feature != plain.features[name]]
    assert differ == ["touched"] and items.features["touched"].embedding.buckets == 65536
