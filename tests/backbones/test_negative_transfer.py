"""Planted negative transfer: a feed that contradicts search in part. Mixed naively it ranks searches worse; routed by domain it does not.

The item of largest utility + Gumbel noise is chosen. Half of the features count with the opposite sign in the feed, whose lists are nine
times as many. Every model knows the domain as an input and takes as many steps; the naive one has time to learn one of the two tastes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from cvr.backbones.hhsft import Backbone, Config
from cvr.metrics import rank_metrics

ITEMS, FEATURES, STEPS = 8, 16, 30
FACTORS = {"model_width": 8, "tokens": 2, "layers": 0, "global_layers": 0, "token_layers": 0, "domain_width": 16, "gate_width": 8}
NAIVE = {"domain_experts": False, "domain_attention": False}


class _Lists(NamedTuple):
    """Features `[B, L, F]`, which item was chosen `[B, L]`, the domain `[B]`."""

    features: tf.Tensor
    chosen: tf.Tensor
    domain: tf.Tensor


Score = Callable[[_Lists], tf.Tensor]


def _lists(search: int, feed: int, seed: int) -> _Lists:
    source, domain = np.random.default_rng(seed), np.repeat([0, 1], [search, feed])
    weights = np.random.default_rng(0).normal(0, 0.5, FEATURES)
    turned = np.where((np.arange(FEATURES) < FEATURES // 2) & (domain[:, None] == 1), -weights, weights)
    features = source.normal(0, 1, (len(domain), ITEMS, FEATURES))
    utility = np.einsum("bnf,bf->bn", features, turned) + source.gumbel(size=(len(domain), ITEMS))
    chosen = utility == utility.max(axis=1, keepdims=True)
    return _Lists(tf.constant(features, tf.float32), tf.constant(chosen, tf.float32), tf.constant(domain, tf.int32))


def _trained(data: _Lists, **factors: bool) -> Score:
    """A projection of features and domain, the backbone and a linear logit, after STEPS of Adam on all lists at once."""
    tf.keras.utils.set_random_seed(1)
    backbone = Backbone(Config(**{**FACTORS, **factors}), domains=1 if factors == NAIVE else 2)
    widths = list(backbone.views.values())
    project, logit = tf.keras.layers.Dense(sum(widths), "relu"), tf.keras.layers.Dense(1, use_bias=False)

    def score(lists: _Lists) -> tf.Tensor:
        domain = tf.repeat(lists.domain, ITEMS)
        inputs = tf.concat([tf.reshape(lists.features, [-1, FEATURES]), tf.one_hot(domain, 2)], axis=1)
        views = dict(zip(backbone.views, tf.split(project(inputs), widths, axis=1), strict=True))
        return tf.reshape(logit(backbone({**views, "domain": domain})), [-1, ITEMS])

    score(data)
    variables = [*project.trainable_variables, *backbone.trainable_variables, *logit.trainable_variables]
    optimizer = tf.keras.optimizers.Adam(0.01)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(data.chosen, score(data)))
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for _ in range(STEPS):
        step()
    return score


def _map(score: Score, lists: _Lists) -> float:
    flat = [np.asarray(values).reshape(-1) for values in (score(lists), lists.chosen)]
    return float(np.mean(rank_metrics(*flat, np.full(len(lists.domain), ITEMS), np.arange(len(flat[0]))).map))


@pytest.fixture(scope="module")
def found() -> dict[str, float]:
    """mAP on the same search lists."""
    test, search, mixed = _lists(1000, 0, 9), _lists(200, 0, 1), _lists(200, 1800, 1)
    scores = {"search": _trained(search, **NAIVE), "naive": _trained(mixed, **NAIVE), "routed": _trained(mixed)}
    return {name: _map(score, test) for name, score in scores.items()}


def test_naive_mixing_hurts_search(found: dict[str, float]) -> None:
    assert found["naive"] < found["search"] - 0.05, found


def test_routing_repairs_it(found: dict[str, float]) -> None:
    """Most of what naive mixing loses; how much depends on the seed."""
    lost, repaired = found["search"] - found["naive"], found["routed"] - found["naive"]
    assert repaired > 0.6 * lost, found
