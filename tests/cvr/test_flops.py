"""Costs, counted by hand on small rankers. tests/tools/test_table1_flops.py has the published ones."""

from __future__ import annotations

import pytest

from cvr.data import dummy_batch
from cvr.flops import cost_of
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


def test_the_backbone_counts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of itself is part of an item's cost: a token layer's weights work once per token, so they cannot be counted."""
    spec = tiny_spec(LEAN)
    factors = {"model_width": 4, "tokens": 3, "layers": 1, "ffn_width": 8}
    ranker = build_ranker(spec, RankerConfig("transformer", factors), dummy_batch(spec))
    before, own = cost_of(ranker).flops_per_item, ranker.backbone.multiply_adds()
    assert own == 2 * 12 * 12 + 2 * (4 * 3 * 4 * 4 + 2 * 3 * 3 * 4) + 3 * 2 * 4 * 8
    monkeypatch.setattr(ranker.backbone, "multiply_adds", lambda: 0)
    assert before - cost_of(ranker).flops_per_item == 2 * own
