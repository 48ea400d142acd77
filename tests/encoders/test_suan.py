"""SUAN and LightSUAN in whole rankers: one list of n against n lists of one, dummy lists, XLA, memory of a history."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import Batch, Budget
from cvr.encoders import lightsuan, suan
from cvr.errors import CvrError
from cvr.extraction import Extraction
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.tracing import shapes_of
from tests.support import LEAN, batch_of, random_columns, tiny_spec

MODEL = RankerConfig("dcnv2", {"cross_width": 4, "deep_width": 4}, experts=2, expert_width=4, tower_width=0)
SUAN = "{name: suan, layers: 2, width: 8, tile: 4}"
LIGHT = "{name: lightsuan, layers: 2, width: 8, window: 2, dilation: 2, tile: 4}"


def _text(encoder: str) -> str:
    """With two tokens in the profile: among one there is nothing to attend to."""
    text = LEAN.replace("length: 4}, ", f"length: 4}}, encoder: {encoder}, ")
    return text.replace("  touched:", "  hour: {kind: numerical, level: context, from: impression.hour}\n  touched:")


def _ranker(encoder: str, seed: int = 3) -> Ranker:
    """With weights large enough for what a history says to be seen in logits of order 1."""
    spec = tiny_spec(_text(encoder))
    ranker = build_ranker(spec, MODEL, batch_of(spec, random_columns(spec, 2)))
    source = np.random.default_rng(seed)
    for variable in ranker.trainable_variables:
        variable.assign(variable + source.normal(0, 0.1, variable.shape))
    return ranker


def _one_by_one(batch: Batch) -> Batch:
    """Every item in a list of its own, with all that its list had."""
    index, count = batch["list_index"], len(batch["item"])
    of_lists = {"context_num", "list_size", "search_id", "time", *(name for name in batch if name.startswith(("seq/", "cat/device")))}
    alone = {name: tf.gather(value, index) if name in of_lists else value for name, value in batch.items()}
    return {**alone, "list_index": tf.range(count), "item_offset": tf.zeros([count], tf.int32), "list_size": tf.ones([count], tf.int32)}


@pytest.fixture(scope="module", params=[SUAN, LIGHT], ids=["suan", "lightsuan"])
def ranker(request: pytest.FixtureRequest) -> Ranker:
    return _ranker(request.param)


def test_parallel_and_one_by_one(ranker: Ranker) -> None:
    batch = batch_of(ranker.spec, random_columns(ranker.spec, 20, seed=4, longest=9))
    together = ranker(batch).numpy()
    np.testing.assert_allclose(ranker(_one_by_one(batch)), together, rtol=0, atol=1e-5)
    moved = {**batch, "seq/recent/item": tf.where(batch["seq/recent/item"] > 3, batch["seq/recent/item"] + 1, batch["seq/recent/item"])}
    assert np.abs(ranker(moved) - together).max() > 1e-2  # the history does reach the logits


def test_padding_of_a_batch_changes_nothing(ranker: Ranker) -> None:
    """Padding items all belong to the last list, which is empty."""
    columns = random_columns(ranker.spec, 6, seed=5)
    plain = batch_of(ranker.spec, columns)
    padded = batch_of(ranker.spec, columns, Budget(items=len(columns.item) + 40, lists=9))
    expected, real = ranker(plain).numpy(), padded["item_mask"].numpy() > 0
    found = ranker(padded).numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[real], expected, rtol=1e-5, atol=1e-5)


def test_every_weight_of_the_encoder_has_a_dense_gradient(ranker: Ranker) -> None:
    """`--table_optimizer` is for tables: what is read as a whole at each step takes the dense optimizer."""
    batch = batch_of(ranker.spec, random_columns(ranker.spec, 20, seed=6))
    ((_, _, encoder),) = ranker.extraction.sequences
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(ranker(batch) ** 2)
    for variable, gradient in zip(encoder.trainable_variables, tape.gradient(total, encoder.trainable_variables), strict=True):
        assert isinstance(gradient, tf.Tensor), variable.name
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.name


def test_bfloat16() -> None:
    """Ages stay in float32; logits stay near those of float32."""
    exact = _ranker(SUAN)
    config = dataclasses.replace(MODEL, precision="mixed_bfloat16")
    mixed = build_ranker(exact.spec, config, batch_of(exact.spec, random_columns(exact.spec, 2)))
    for one, other in zip(mixed.trainable_variables, exact.trainable_variables, strict=True):
        one.assign(other)
    batch = batch_of(exact.spec, random_columns(exact.spec, 20, seed=4))
    expected, found = exact(batch).numpy(), mixed(batch).numpy()
    assert 0 < np.abs(found - expected).mean() < 0.05 * expected.std()


def test_no_history_is_copied_for_every_item() -> None:
    """With 64 items a list, no tensor of a shared history has a row for each of them: tiles of 8 hold its keys 1 / 8 times as often."""
    length, items, lists = 40, 64, 3
    text = _text(LIGHT.replace("tile: 4", "tile: 8")).replace("length: 4", f"length: {length}")
    spec = tiny_spec(text)
    extraction = Extraction(spec)
    columns = random_columns(spec, lists, longest=1)
    batch = batch_of(spec, columns, Budget(items * lists, lists + 1))
    extraction(batch)
    shapes = {name: value for name, value in shapes_of(batch).items() if value.dtype != tf.string}
    graph = tf.function(extraction, autograph=False).get_concrete_function(shapes).graph
    largest = max(
        int(np.prod(tensor.shape))
        for operation in graph.get_operations()
        for tensor in operation.outputs
        if tensor.dtype == tf.float32 and tensor.shape.is_fully_defined()
    )
    assert largest < items * lists * length * 8


def test_factors() -> None:
    assert suan.Config().factors().gate == "sample" and lightsuan.Config().factors().gate == "position"
    assert (lightsuan.Config().window, lightsuan.Config().dilation, suan.Config().factors().window) == (8, 4, 0)
    for encoder, message in (
        ("{name: suan, width: 8, heads: 3}", "suan: heads, 3, must divide the width, 8"),
        ("{name: suan, window: 3}", "suan: unknown factor window; it has gate, heads, hidden"),
        ("{name: lightsuan, gate: sample}", "lightsuan: unknown factor gate; it has dilation, heads"),
    ):
        with pytest.raises(CvrError, match=message):
            Extraction(tiny_spec(_text(encoder)))
