"""Planted negative transfer: a feed that contradicts search in part. Mixed naively it ranks searches worse; routed by domain it does not.

A purchase is the item of largest utility + Gumbel noise, which reads two features alike everywhere and two with the opposite sign in the
feed, whose lists are many times as many. The domain is an input of every model.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr import records, transforms
from cvr.data import Batch, dummy_batch
from cvr.losses import listwise_losses
from cvr.metrics import rank_metrics
from cvr.ranker import Ranker, RankerConfig, build_ranker
from tests.support import FIRST_TIME, batch_of, tiny_spec

TEXT = """
dataset: planted
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  domain: {kind: categorical, level: context, from: impression.domain, vocabulary: [search, feed], embedding: {buckets: 2, dim: 2}}
  one: {kind: numerical, level: item, from: impression.one, transforms: [identity]}
  two: {kind: numerical, level: item, from: impression.two, transforms: [identity]}
  three: {kind: numerical, level: item, from: impression.three, transforms: [identity]}
  four: {kind: numerical, level: item, from: impression.four, transforms: [identity]}
"""
SPEC = tiny_spec(TEXT)
ITEMS, WEIGHTS, CONFLICT = 8, np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, -1.0, -1.0])
FACTORS = {"model_width": 8, "tokens": 2, "layers": 1, "ffn_width": 16, "global_rank": 8, "domain_width": 16, "gate_width": 8}
NAIVE = {"domain_experts": False, "domain_attention": False}


def _lists(search: int, feed: int, seed: int) -> Batch:
    source, count = np.random.default_rng(seed), search + feed
    names = np.array(["search"] * search + ["feed"] * feed)[source.permutation(count)]
    values = source.normal(0, 1, (count, ITEMS, 4))
    signs = np.where((names == "feed")[:, None], CONFLICT, 1.0)
    utility = np.einsum("bnf,bf->bn", values, WEIGHTS * signs) + source.gumbel(size=(count, ITEMS))
    labels = (utility == utility.max(axis=1, keepdims=True)).astype(np.int64).reshape(-1, 1)
    columns = records.ListColumns(
        search_id=np.array([str(row) for row in range(count)], object),
        time=FIRST_TIME + np.arange(count),
        lengths=np.full(count, ITEMS),
        item=np.arange(4, 4 + count * ITEMS),
        position=np.tile(np.arange(1, ITEMS + 1), count),
        labels=labels,
        delay=np.where(labels > 0, 1, -1),
        popularity=np.zeros(count * ITEMS, np.float32),
        context_num=np.zeros((count, 0), np.float32),
        item_num=values.reshape(-1, 4).astype(np.float32),
        cat={"domain": transforms.hash_strings(list(names)).numpy()},
        bags={},
        sequences={},
    )
    return batch_of(SPEC, columns)


def _trained(data: Batch, steps: int = 60, **changes: object) -> Ranker:
    routed = not changes
    config = RankerConfig("hhsft", {**FACTORS, **changes}, 2, 8, 0, domain_feature="domain" if routed else "", seed=1)
    ranker = build_ranker(SPEC, config, dummy_batch(SPEC))
    optimizer = tf.keras.optimizers.Adam(0.01)
    optimizer.build(ranker.trainable_variables)
    given = {name: value for name, value in data.items() if value.dtype != tf.string}

    @tf.function(autograph=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(listwise_losses(ranker(given, training=True), given, ITEMS))
        optimizer.apply_gradients(zip(tape.gradient(total, ranker.trainable_variables), ranker.trainable_variables, strict=True))

    for _ in range(steps):
        step()
    return ranker


def _map(ranker: Ranker, data: Batch) -> float:
    labels, lengths = data["labels"].numpy()[:, 0], data["list_size"].numpy()
    return float(np.mean(rank_metrics(ranker(data).numpy()[:, 0], labels, lengths, np.arange(len(labels))).map))


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    """mAP on the same search lists."""
    test, search, mixed = _lists(600, 0, 9), _lists(100, 0, 1), _lists(100, 900, 1)
    rankers = {"search": _trained(search, **NAIVE), "naive": _trained(mixed, **NAIVE), "routed": _trained(mixed)}
    return {name: _map(ranker, test) for name, ranker in rankers.items()}


def test_naive_mixing_hurts_search(found: dict[str, float]) -> None:
    assert found["naive"] < found["search"] - 0.02, found


def test_routing_repairs_it(found: dict[str, float]) -> None:
    assert found["routed"] > found["naive"] + 0.02 and found["routed"] > found["search"] - 0.01, found
