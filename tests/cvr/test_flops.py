"""Costs: counted by hand on small rankers, and held against TensorFlow's profiler on the whole graph.

tests/tools/test_table1_flops.py has the published ones.
"""

from __future__ import annotations

import dataclasses
import math

import pytest

from cvr import backbones
from cvr.data import dummy_batch
from cvr.flops import cost_of, parts_of
from cvr.ranker import RankerConfig, build_ranker
from cvr.tracing import abstract_ranker, shapes_of, trace_scoring
from tests.backbones.test_backbones import SMALL
from tests.profiler import operations_of, products_of
from tests.support import LEAN, SPEC, tiny_spec


def test_a_small_ranker_by_hand() -> None:
    """Context 2 + 1 + 2 wide, item 2 * 4 + 2; masknet of one block; 4 events of width 2 and 2 kinds, by their mean."""
    spec = tiny_spec(LEAN)
    factors = {"cross_width": 8, "deep_width": 6, "parallel_blocks": 1, "sequential_blocks": 1}
    config = RankerConfig("masknet", factors, experts=3, expert_width=5, tower_width=4)
    ranker = build_ranker(spec, config, dummy_batch(spec))
    cost = cost_of(ranker)
    context, item = 1 + 2 + 2, 2 * 4 + 2  # constant, device, history; two numericals with four inputs each, tags
    block = 8 * 16 + 16 * 8 + 8 * 6
    head = 6 * 15 + 6 * 6 + 2 * 3 * 5 + 2 * 5 * 4 + 2 * 4  # experts, gates, mixture, towers, logits
    events = 4 * ((2 + 4) * 2 + 32 * 2) + 4 * 2  # actions and ages by one-hot products, the mean
    assert cost.flops_per_item == 2 * (item * 8 + block + head)
    assert cost.flops_per_list == 2 * (context * 8 + events)
    tables = (5 + 4) * 2 + (30 + 4) * 2 + (20 + 4) * 2
    biases = 8 + (16 + 8 + 6) + 2 * 6 + 15 + 2 * 4  # projection, block, norm, experts, towers
    history = (2 + 4) * 2 + 32 * 2 + 2  # actions, ages, the empty history
    head_weights = head - 2 * 3 * 5
    assert cost.embedding_bytes == 4 * tables
    assert cost.dense_parameters == (context + item) * 8 + block + head_weights + biases + history
    assert cost.parameters == cost.dense_parameters + tables
    assert f"{cost.flops_per_item:,}" in cost.describe()
    parts = {(part.part, part.name): part for part in parts_of(ranker)}
    assert parts["embedding", "tags, 34 x 2"].parameters == 68
    assert parts["head", "towers"].parameters == 2 * 5 * 4 + 2 * 4 + 2 * 4
    assert parts["sequence", "recent (mean, 4 events)"].flops_per_list == 2 * events


@pytest.mark.parametrize(
    ("backbone", "encoder"),
    [
        ("dcnv2", "mean"),
        ("masknet", "gru"),
        ("transformer", "target_attention"),
        ("rankmixer", "transformer"),
        ("wukong", "mean"),
        ("hhsft", "gru"),
        ("dhen", "gru"),
        ("dagfm", "eta"),
        ("dcnv2", "{name: suan, layers: 2, width: 8, tile: 2}"),
        ("dcnv2", "{name: suan, width: 8, heads: 1, residual: clean, gate: position, tile: 2}"),
        ("dcnv2", "{name: lightsuan, layers: 2, width: 8, window: 1, dilation: 2, tile: 2}"),
    ],
)
def test_the_whole_ranker_is_what_the_profiler_counts(backbone: str, encoder: str) -> None:
    """Exactly, for matrix products, at two sizes, which only the right split into lists' and items' shares can be.

    The last product, of each task's tower with its logit's kernel, is an element-wise one and a sum, which the profiler does not call so.
    """
    spec = tiny_spec(LEAN.replace("length: 4}, ", f"length: 4}}, encoder: {encoder}, "))
    config = RankerConfig(backbone, SMALL[backbone], experts=3, expert_width=5, tower_width=4)
    ranker = abstract_ranker(spec, config, shapes_of(dummy_batch(spec)))
    assert spec.features["recent"].encoder.name in encoder.strip("{").split(",")[0]
    cost, parts = cost_of(ranker), parts_of(ranker)
    for lists, length in ((2, 7), (5, 3)):
        graph = trace_scoring(ranker, shapes_of(dummy_batch(spec, lists, length))).graph
        logits = 2 * lists * length * 2 * 4
        assert products_of(graph) + logits == lists * (cost.flops_per_list + length * cost.flops_per_item)
    assert sum(part.flops_per_item for part in parts if part.part == "backbone") == 2 * ranker.backbone.multiply_adds()


def test_every_weight_is_in_one_part() -> None:
    spec = tiny_spec(SPEC)
    ranker = abstract_ranker(spec, RankerConfig("dhen", SMALL["dhen"]), shapes_of(dummy_batch(spec)))
    for layer, part in ((ranker, None), (ranker.backbone, "backbone"), (ranker.head, "head")):
        counted = sum(row.parameters for row in parts_of(ranker) if part in (None, row.part))
        assert counted == sum(math.prod(variable.shape) for variable in layer.trainable_variables) > 0
    kinds = [row.name for row in parts_of(ranker) if row.part == "backbone"]
    assert kinds == ["dcnv2", "rankmixer", "ensemble"]


def test_at_full_size_within_1_percent_of_all_operations() -> None:
    spec = tiny_spec(LEAN)
    factors = dataclasses.asdict(backbones.make_config("rankmixer", {}, "L"))
    ranker = abstract_ranker(spec, RankerConfig("rankmixer", factors), shapes_of(dummy_batch(spec, 1, 8)))
    cost = cost_of(ranker)
    graph = trace_scoring(ranker, shapes_of(dummy_batch(spec, 1, 8))).graph
    assert cost.flops_per_list + 8 * cost.flops_per_item == pytest.approx(operations_of(graph), rel=0.01)


def test_the_backbone_counts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of itself is part of an item's cost: a token layer's weights work once per token, so they cannot be counted."""
    spec = tiny_spec(LEAN)
    factors = {"model_width": 4, "tokens": 3, "layers": 1, "ffn_width": 8}
    ranker = abstract_ranker(spec, RankerConfig("transformer", factors), shapes_of(dummy_batch(spec)))
    before, own = cost_of(ranker).flops_per_item, ranker.backbone.multiply_adds()
    tokens, block = 2 * 12 * 12, 2 * (4 * 3 * 4 * 4 + 2 * 3 * 3 * 4) + 3 * 2 * 4 * 8
    assert own == tokens + block and ranker.backbone.parts() == {"tokens": tokens, "block": block}
    monkeypatch.setattr(ranker.backbone, "parts", lambda: {"tokens": 0})
    assert before - cost_of(ranker).flops_per_item == 2 * own
