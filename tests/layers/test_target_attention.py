"""Target attention against its equations, candidate by candidate and event by event."""

from __future__ import annotations

import numpy as np
import pytest

from cvr.layers.target_attention import TargetAttention
from tests.layers.case import Arrays, LayerCase

DIM = 4
ITEM_INPUTS = ("queries", "match", "list_index")


class TestTargetAttention(LayerCase):
    """Two items of a list with two events, one with three, one with none, whose items match some of them."""

    def make(self) -> TargetAttention:
        return TargetAttention(DIM)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {
            "queries": source.normal(0, 1, (4, 5)),
            "events": source.normal(0, 1, (3, 3, 5)),
            "real": np.array([[True, True, False], [True, True, True], [False, False, False]]),
            "match": np.array([[False, True, False], [True, False, False], [False, True, True], [False, False, False]]),
            "list_index": np.array([0, 0, 1, 2]),
        }

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {name: value[order] if name in ITEM_INPUTS else value for name, value in inputs.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        count, length = inputs["match"].shape
        steps = {
            "logits": np.zeros((count, length)),
            "weights": np.zeros((count, length + 1)),
            "seen": np.zeros((count, DIM)),
            "output": np.zeros((count, DIM)),
        }
        for i, row in enumerate(inputs["list_index"]):
            query = inputs["queries"][i] @ weights["query_kernel"]
            for k, event in enumerate(inputs["events"][row]):
                score = query @ (event @ weights["key_kernel"]) / np.sqrt(DIM) + event @ weights["event_bias"]
                steps["logits"][i, k] = score + weights["match_bias"] * inputs["match"][i, k]
            powers = np.append(np.exp(steps["logits"][i]) * inputs["real"][row], 1.0)
            shares = steps["weights"][i] = powers / powers.sum()
            for k, event in enumerate(inputs["events"][row]):
                steps["seen"][i] += shares[k] * (event @ weights["value_kernel"])
            matched = shares[:-1] @ inputs["match"][i]
            steps["output"][i] = steps["seen"][i] + matched * weights["match_value"] + shares[-1] * weights["empty"]
        return steps


@pytest.fixture(scope="module")
def layer() -> TargetAttention:
    return TestTargetAttention().build()


def _run(layer: TargetAttention, inputs: Arrays) -> np.ndarray:
    return TestTargetAttention()._run(layer, inputs).numpy()


def test_an_empty_history_gives_the_empty_vector(layer: TargetAttention) -> None:
    np.testing.assert_allclose(_run(layer, TestTargetAttention().stored("inputs"))[3], layer.empty, rtol=1e-6)


def test_longer_padding_changes_nothing_whatever_it_holds(layer: TargetAttention) -> None:
    inputs = TestTargetAttention().stored("inputs")
    wide = [(0, 0), (0, 6)]
    longer = {
        **inputs,
        "events": np.pad(inputs["events"], [*wide, (0, 0)], constant_values=9.0),
        "real": np.pad(inputs["real"], wide),
        "match": np.pad(inputs["match"], wide),
    }
    np.testing.assert_allclose(_run(layer, longer), _run(layer, inputs), rtol=1e-5, atol=1e-6)


def test_the_order_of_events_does_not_matter(layer: TargetAttention) -> None:
    inputs = TestTargetAttention().stored("inputs")
    turned = {name: value[:, ::-1] if name in ("events", "real", "match") else value for name, value in inputs.items()}
    np.testing.assert_allclose(_run(layer, turned), _run(layer, inputs), rtol=1e-5, atol=1e-6)


def test_multiply_adds(layer: TargetAttention) -> None:
    """Of 7 events of width 5 per list: keys and values 5 x 4, the bias 5; per item: its query 5 x 4, scores and sum 7 x 4."""
    assert layer.list_multiply_adds(7) == 7 * (2 * 20 + 5) and layer.item_multiply_adds(7) == 20 + 2 * 7 * 4
