"""Costs: counted by hand on a small ranker, and the published ones at the paper's dimensions."""

from __future__ import annotations

import types

import pytest
import tensorflow as tf

from cvr import backbones
from cvr.data import dummy_batch
from cvr.flops import cost_of
from cvr.layers.mmoe import MMoE
from cvr.layers.projection import InputProjection
from cvr.ranker import RankerConfig, build_ranker
from tests.support import LEAN, tiny_spec


def test_a_small_ranker_by_hand() -> None:
    """Context 2 + 1 + 2 wide, item 2 * 4 + 2; masknet of one block."""
    spec = tiny_spec(LEAN)
    factors = {"cross_width": 8, "deep_width": 6, "parallel_blocks": 1, "sequential_blocks": 1}
    config = RankerConfig("masknet", factors, experts=3, expert_width=5, tower_width=4)
    cost = cost_of(build_ranker(spec, config, dummy_batch(spec)))
    context, item = 1 + 2 + 2, 2 * 4 + 2  # constant, device, history; two numericals with four inputs each, tags
    block = 8 * 16 + 16 * 8 + 8 * 6
    head = 6 * 15 + 6 * 6 + 2 * 3 * 5 + 2 * 5 * 4 + 2 * 4  # experts, gates, mixture, towers, logits
    assert cost.flops_per_item == 2 * (item * 8 + block + head)
    assert cost.flops_per_list == 2 * context * 8
    tables = (5 + 4) * 2 + (30 + 4) * 2 + (20 + 4) * 2
    biases = 8 + (16 + 8 + 6) + 2 * 6 + 15 + 2 * 4  # projection, block, norm, experts, towers
    history = (2 + 4) * 2 + 32 * 2 + 2  # actions, ages, the empty history
    head_weights = head - 2 * 3 * 5
    assert cost.embedding_bytes == 4 * tables
    assert cost.dense_parameters == (context + item) * 8 + block + head_weights + biases + history
    assert cost.parameters == cost.dense_parameters + tables
    assert f"{cost.flops_per_item:,}" in cost.describe()


def _published(backbone: str, **factors: int) -> float:
    """FLOPs per item with the paper's input (3590 wide, all of it per item) and head (4096 wide first layer)."""
    module = backbones.load(backbone)
    layer = module.Backbone(module.Config(**factors))
    projection = InputProjection(layer.views)
    projection.build((tf.TensorShape([None, 0]), tf.TensorShape([None, 3590])))
    hidden = layer({name: tf.ones([1, width]) for name, width in layer.views.items()})
    head = MMoE(tasks=1, experts=1, expert_width=4096)
    head(hidden)
    parts = [projection, layer, head]
    ranker = types.SimpleNamespace(
        projection=projection,
        backbone=layer,
        head=head,
        extraction=types.SimpleNamespace(table_variables=[]),
        trainable_variables=[v for part in parts for v in part.trainable_variables],
    )
    beyond_the_first_layer = 2 * (int(hidden.shape[1]) + 4096 + 4096)  # one gate, one mixture, one logit of this head
    return cost_of(ranker).flops_per_item - beyond_the_first_layer + 1.85e6  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backbone", "factors", "published"),
    [
        ("dcnv2", {"cross_width": 1024, "deep_width": 1024}, 4.17e7),
        ("masknet", {"cross_width": 512, "deep_width": 1024, "parallel_blocks": 2}, 2.86e7),
        ("masknet", {"cross_width": 1024, "deep_width": 1024, "parallel_blocks": 2}, 4.70e7),
    ],
)
def test_published_costs(backbone: str, factors: dict[str, int], published: float) -> None:
    """Table 1 of the paper, with 1.85e6 for what its head does after the first layer."""
    assert _published(backbone, **factors) == pytest.approx(published, rel=0.015)


def test_a_sequential_block_costs_what_the_paper_says() -> None:
    """2wt + 2th + 2h^2 for each further block, t = 2w; at a twentieth of the paper's width."""
    w, h = 102, 51
    one, two = (
        _published("masknet", cross_width=w, deep_width=h, parallel_blocks=1, sequential_blocks=s) for s in (1, 2)
    )
    assert two - one == 2 * w * 2 * w + 2 * 2 * w * h + 2 * h * h
