"""The whole ranker under mixed_bfloat16: on every backbone, and with every encoder and kind of table."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr import records
from cvr.data import Batch, dummy_batch
from cvr.extraction import Extraction
from cvr.optimizers import make_optimizer
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.schema import parse_spec
from tests.backbones.test_backbones import SMALL
from tests.layers.case import policy
from tests.support import LEAN, SPEC, batch_of, random_columns, tiny_spec

EVERYTHING = parse_spec(
    SPEC
    + """
  read: {kind: sequence, level: context, history: {events: [click], length: 4}, embedding: {buckets: 20, dim: 2}, encoder: gru}
  met: {kind: sequence, level: context, history: {events: [click], length: 4}, table: shared, encoder: transformer}
  sku: {kind: categorical, level: item, from: impression.sku, embedding: {buckets: 40, dim: 2, method: quotient_remainder}}
  shop: {kind: categorical, level: item, from: impression.shop, embedding: {buckets: 40, dim: 2, method: multi_hash}}
  line: {kind: text, level: item, from: item.line, table: shared}
  rare: {kind: categorical, level: item, from: impression.rare, embedding: {buckets: 40, dim: 2, shrinkage: 2}}
tables:
  shared: {buckets: 60, dim: 4, method: unified}
"""
)


SPECS = {name: EVERYTHING if name == "masknet" else tiny_spec(LEAN) for name in SMALL}


def _build(name: str, precision: str) -> Ranker:
    config = RankerConfig(name, SMALL[name], experts=2, expert_width=8, tower_width=0, precision=precision)
    ranker = build_ranker(SPECS[name], config, dummy_batch(SPECS[name]))
    for table in ranker.extraction.shrunk_tables.values():
        table.set_counts(np.arange(len(table.counts.numpy())))
    return ranker


def _batch(name: str) -> Batch:
    return batch_of(SPECS[name], random_columns(SPECS[name], 12, seed=3))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_logits_are_finite_float32_and_near_those_of_float32(name: str) -> None:
    exact, mixed = _build(name, "float32"), _build(name, "mixed_bfloat16")
    source = np.random.default_rng(1)
    for one, other in zip(exact.trainable_variables, mixed.trainable_variables, strict=True):
        assert one.name.split("/")[1:] == other.name.split("/")[1:] and other.dtype == tf.float32
        value = one.numpy() + source.normal(0, 0.1, one.shape)
        one.assign(value)
        other.assign(value)
    batch = _batch(name)
    expected, found = exact(batch), mixed(batch)
    assert found.dtype == tf.float32 and np.isfinite(found).all()
    spread = np.std(expected, axis=0)
    assert spread.min() > 0.01
    assert (np.abs(found - expected) / spread).mean() < 0.05  # bfloat16 has 8 bits: 1 part in 256
    assert np.abs(found - expected).max() > 0  # it did compute in bfloat16


def test_a_step_of_training() -> None:
    """Sparse gradients of float32 tables; every variable moves by a finite amount."""
    ranker, batch = _build("masknet", "mixed_bfloat16"), _batch("masknet")
    rate = tf.keras.optimizers.schedules.PiecewiseConstantDecay([10], [0.01, 0.01])
    optimizer = make_optimizer(lambda: ranker.extraction.table_variables, lambda: ranker.dense_variables, rate, rate)

    variables = ranker.trainable_variables
    before = [v.numpy() for v in variables]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ranker(batch, training=True) ** 2)
    gradients = tape.gradient(total, variables)
    optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))
    for variable, old, gradient in zip(variables, before, gradients, strict=True):
        moved = np.abs(variable.numpy() - old).max()
        assert np.isfinite(moved) and (moved > 0) == bool(np.any(tf.convert_to_tensor(gradient))), variable.name


def test_raw_values_reach_their_transforms_unrounded() -> None:
    """Seconds since the last event, 100,000 and 100,003, are one number in bfloat16 but two standardised inputs; so are stored numbers."""
    spec = parse_spec(
        "dataset: d\ntasks: {p: {events: [p], window: 1d, primary: true}}\nfeatures:\n"
        "  price: {kind: numerical, level: item, from: item.price, transforms: [zscore]}\n"
        "  since: {kind: numerical, level: item, derive: {op: history_seconds_since, history: past}, transforms: [zscore]}\n"
        "  past: {kind: sequence, level: context, history: {events: [p], length: 2}, embedding: {buckets: 4, dim: 2}}\n"
    )
    columns = random_columns(spec, 2, longest=1)
    columns.item_num[:] = [[100_000.0], [100_003.0]]
    ages = np.array([100_000.0, 100_003.0], np.float32)
    columns.sequences["past"] = records.Histories(np.full(2, 9), np.full(2, 4), ages, np.ones(2, np.int64))
    with policy("mixed_bfloat16"):
        extraction = Extraction(spec)
        extraction(dummy_batch(spec))
        extraction.numericals["item"].set_statistics(dict.fromkeys(("price", "since"), (100_001.0, 2.0, 0.0, 1.0)))
        context, items = extraction(batch_of(spec, columns))
    assert context.dtype == items.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(items[:, :2], tf.float32), [[-0.5, -0.5], [1.0, 1.0]])


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_no_table_is_read_as_a_whole(precision: str) -> None:
    """A policy that casts tables would read and cast all of their rows at each look-up."""
    ranker = _build("masknet", precision)

    @tf.function(autograph=False)
    def step(batch: Batch) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(ranker(batch, training=True) ** 2)
        return [gradient.values for gradient in tape.gradient(total, ranker.extraction.table_variables)]

    graph = step.get_concrete_function({k: v for k, v in _batch("masknet").items() if v.dtype != tf.string}).graph
    read = {op.inputs[0].name for op in graph.get_operations() if op.type == "ReadVariableOp"}
    captured = {id(outside): inside.name for outside, inside in graph.captures}
    assert captured[id(ranker.projection.item_kernel.handle)] in read
    assert [table.name for table in ranker.extraction.table_variables if captured[id(table.handle)] in read] == []
