"""The whole ranker on one batch: what must not change a score, and what must."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cvr import records, transforms
from cvr.data import Budget, dummy_batch
from cvr.ranker import Ranker, RankerConfig, build_ranker
from tests.support import batch_of, random_columns, tiny_spec

SPEC = tiny_spec()
FACTORS = {
    "dcnv2": {"cross_width": 8, "deep_width": 6, "cross_layers": 2, "deep_layers": 2},
    "masknet": {"cross_width": 8, "deep_width": 6, "parallel_blocks": 2, "sequential_blocks": 2},
    "rankmixer": {"model_width": 6, "tokens": 3, "ffn_width": 6, "layers": 1, "ffn_experts": 2},
}


def _build(backbone: str, **changes: object) -> Ranker:
    config = RankerConfig(backbone, FACTORS[backbone], experts=2, expert_width=8, tower_width=4, seed=5)
    ranker = build_ranker(SPEC, dataclasses.replace(config, **changes), dummy_batch(SPEC))
    source = np.random.default_rng(0)
    for variable in ranker.extraction.trainable_variables:  # large enough that every input moves the logits
        variable.assign(source.normal(0.0, 1.0, variable.shape))
    return ranker


@pytest.fixture(scope="module", params=sorted(FACTORS))
def ranker(request: pytest.FixtureRequest) -> Ranker:
    return _build(request.param)


@pytest.fixture(scope="module")
def columns() -> records.ListColumns:
    return random_columns(SPEC, 9, seed=7)


def _scores(ranker: Ranker, columns: records.ListColumns, budget: Budget | None = None) -> np.ndarray:
    return ranker(batch_of(SPEC, columns, budget)).numpy()


def _take(columns: records.ListColumns, order: list[int]) -> tuple[records.ListColumns, np.ndarray]:
    """The chosen lists in the given order, and the item rows that they had."""

    def rows(lengths: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        starts = np.cumsum(lengths) - lengths
        return np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in chosen])

    def bag(name: str, value: records.Bag) -> records.Bag:
        chosen = items if SPEC.features[name].level == "item" else np.array(order)
        return records.Bag(value.values[rows(value.lengths, chosen)], value.lengths[chosen])

    def history(value: records.Histories) -> records.Histories:
        events = rows(value.lengths, np.array(order))
        return records.Histories(value.item[events], value.action[events], value.age[events], value.lengths[order])

    items = rows(columns.lengths, np.array(order))
    per_item = ("item", "position", "labels", "delay", "popularity", "item_num")
    taken = dataclasses.replace(
        columns,
        **{name: getattr(columns, name)[items] for name in per_item},
        **{name: getattr(columns, name)[order] for name in ("search_id", "time", "lengths", "context_num")},
        cat={k: v[items if SPEC.features[k].level == "item" else order] for k, v in columns.cat.items()},
        bags={k: bag(k, v) for k, v in columns.bags.items()},
        sequences={k: history(v) for k, v in columns.sequences.items()},
    )
    return taken, items


def test_one_logit_per_task_and_item(ranker: Ranker, columns: records.ListColumns) -> None:
    scores = _scores(ranker, columns)
    assert scores.shape == (int(columns.lengths.sum()), 2) and scores.dtype == np.float32
    assert np.isfinite(scores).all() and scores.std() > 0.01
    assert ranker.task_names == ("purchase", "click")


def test_padding_changes_no_score(ranker: Ranker, columns: records.ListColumns) -> None:
    items = int(columns.lengths.sum())
    padded = _scores(ranker, columns, Budget(items + 11, 15))
    np.testing.assert_allclose(padded[:items], _scores(ranker, columns), rtol=1e-5, atol=1e-6)


def test_order_of_lists_and_batch_mates_change_no_score(ranker: Ranker, columns: records.ListColumns) -> None:
    together = _scores(ranker, columns)
    for order in ([8, 3, 0, 5, 1, 2, 4, 7, 6], [4]):
        taken, items = _take(columns, order)
        np.testing.assert_allclose(_scores(ranker, taken), together[items], rtol=1e-5, atol=1e-6)


def test_the_parts_make_the_whole(ranker: Ranker, columns: records.ListColumns) -> None:
    """extract, project_context and score, as serving calls them one after the other."""
    batch = batch_of(SPEC, columns)
    context, items = ranker.extract(batch)
    projection = ranker.project_context(context)
    scores = ranker.score(tf.gather(projection, batch["list_index"]), items)
    np.testing.assert_allclose(scores, ranker(batch), rtol=1e-6, atol=1e-6)
    first = int(columns.lengths[0])
    np.testing.assert_allclose(ranker.score(projection[:1], items[:first]), scores[:first], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["numerical", "context", "categorical", "text", "bag", "history"])
def test_every_kind_of_input_moves_the_scores(kind: str, ranker: Ranker, columns: records.ListColumns) -> None:
    other, _ = _take(columns, list(range(9)))
    changed = {
        "numerical": (other.item_num, 3.0),
        "context": (other.context_num, 3.0),
        "categorical": (other.cat["item"], 77),
        "text": (other.bags["query"].values, 77),
        "bag": (other.bags["tags"].values, 77),
        "history": (other.sequences["recent"].action, 5),
    }
    array, value = changed[kind]
    array[:] = value
    assert np.abs(_scores(ranker, other) - _scores(ranker, columns)).max() > 1e-4


def test_missing_unseen_and_zero_are_three_inputs(ranker: Ranker, columns: records.ListColumns) -> None:
    found = []
    for value in (0.0, np.nan, transforms.UNSEEN_VALUE):
        other, _ = _take(columns, list(range(9)))
        other.item_num[:, 1] = value
        found.append(_scores(ranker, other))
    assert (
        min(np.abs(a - b).max() for a, b in ((found[0], found[1]), (found[0], found[2]), (found[1], found[2]))) > 1e-4
    )


def test_same_seed_same_weights_another_seed_others() -> None:
    one, two, other = (build_ranker(SPEC, RankerConfig(seed=seed), dummy_batch(SPEC)) for seed in (1, 1, 2))
    for a, b in zip(one.variables, two.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)
    assert any((a.numpy() != b.numpy()).any() for a, b in zip(one.variables, other.variables, strict=True))


def test_tables_and_dense_variables_are_all_variables_once(ranker: Ranker) -> None:
    tables = [variable.ref() for variable in ranker.extraction.table_variables]
    dense = [variable.ref() for variable in ranker.dense_variables]
    assert len(tables) == 7  # query, device, item, tags, recent, bought and offset
    assert len(set(tables + dense)) == len(tables + dense)
    assert set(tables + dense) == {variable.ref() for variable in ranker.trainable_variables}


def test_dropout_is_for_training_and_repeats_by_step(columns: records.ListColumns) -> None:
    ranker, batch = _build("dcnv2", dropout=0.5), batch_of(SPEC, columns)
    np.testing.assert_array_equal(ranker(batch), ranker(batch))
    ranker.dropout_step.assign(4)
    first, second = ranker(batch, training=True), ranker(batch, training=True)
    ranker.dropout_step.assign(4)
    np.testing.assert_array_equal(ranker(batch, training=True), first)
    assert np.abs(first - second).max() > 1e-4


def test_training_reaches_the_backbone(columns: records.ListColumns) -> None:
    """Sparse experts penalise their open gates in training, and only then."""
    ranker, batch = _build("rankmixer"), batch_of(SPEC, columns)
    ranker(batch)
    assert not ranker.losses
    ranker(batch, training=True)
    assert len(ranker.losses) == 1 and float(ranker.losses[0]) > 0


def test_gradients_reach_every_trainable_variable(ranker: Ranker, columns: records.ListColumns) -> None:
    batch = batch_of(SPEC, columns)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ranker(batch, training=True) ** 2)
    gradients = tape.gradient(total, ranker.trainable_variables)
    for variable, gradient in zip(ranker.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
    for table in ranker.extraction.table_variables:
        assert isinstance(tape_of(gradients, ranker, table), tf.IndexedSlices), table.name


def tape_of(gradients: list, ranker: Ranker, variable: tf.Variable) -> tf.IndexedSlices:
    """The gradient of one variable."""
    place = [v.ref() for v in ranker.trainable_variables].index(variable.ref())
    return gradients[place]
