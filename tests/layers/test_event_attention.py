"""Multi-head target attention over each item's own events, head by head and event by event."""

from __future__ import annotations

import numpy as np

from cvr.layers.event_attention import EventAttention
from cvr.layers.target_attention import TargetAttention
from tests.layers.case import Arrays, LayerCase, weights_of
from tests.layers.references import softmax

HEADS, WIDTH = 2, 4


def attend(weights: Arrays, queries: np.ndarray, events: np.ndarray, real: np.ndarray, match: np.ndarray) -> Arrays:
    """Keys, values and every weight worked out one by one."""
    count, length, width = events.shape
    heads = weights["match_bias"].shape[0]
    steps = {
        "logits": np.zeros((count, heads, length)),
        "weights": np.zeros((count, heads, length + 1)),
        "seen": np.zeros((count, heads, width)),
        "output": np.zeros((count, heads, width)),
    }
    for i, head in np.ndindex(count, heads):
        query = queries[i] @ weights["query_kernel"][head]
        for k, event in enumerate(events[i]):
            score = query @ (event @ weights["key_kernel"][head]) / np.sqrt(width) + event @ weights["event_bias"][head]
            steps["logits"][i, head, k] = score + weights["match_bias"][head] * match[i, k]
        shown = np.where(real[i], steps["logits"][i, head], -np.inf)
        shares = steps["weights"][i, head] = softmax(np.append(shown, 0.0))
        for k, event in enumerate(events[i]):
            steps["seen"][i, head] += shares[k] * event
            value = event @ weights["value_kernel"][head] + match[i, k] * weights["match_value"][head]
            steps["output"][i, head] += shares[k] * value
        steps["output"][i, head] += shares[-1] * weights["empty"][head]
    return {**steps, "output": steps["output"].reshape(count, -1)}


class TestEventAttention(LayerCase):
    """Four items with three events each, of which all, some, none and all are real."""

    def make(self) -> EventAttention:
        return EventAttention(HEADS)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {
            "queries": source.normal(0, 1, (4, WIDTH)),
            "events": source.normal(0, 1, (4, 3, WIDTH)),
            "real": np.array([[True, True, True], [True, False, True], [False, False, False], [True, True, True]]),
            "match": np.array([[False, True, False], [True, False, False], [False, True, True], [False, False, False]]),
        }

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return attend(weights, **inputs)


def test_without_events_each_head_gives_its_empty_vector() -> None:
    layer, inputs = TestEventAttention().build(), TestEventAttention().stored("inputs")
    output = TestEventAttention()._run(layer, inputs).numpy()
    np.testing.assert_allclose(output[2], np.reshape(layer.empty, -1), rtol=1e-6)


def test_one_head_is_target_attention() -> None:
    """With the same weights, of a list for each item."""
    inputs = TestEventAttention().stored("inputs")
    queries, events, real, match = TestEventAttention()._tensors(inputs, np.float32)
    one, other = EventAttention(1), TargetAttention(WIDTH)
    one(queries, events, real, match)
    other(queries, events, real, match, np.arange(4))
    source = np.random.default_rng(1)
    for name, variable in weights_of(other).items():
        variable.assign(source.normal(0, 0.6, variable.shape))
        mine = weights_of(one)[name]
        mine.assign(np.reshape(variable, mine.shape))
    np.testing.assert_allclose(
        one(queries, events, real, match), other(queries, events, real, match, np.arange(4)), rtol=1e-4, atol=1e-5
    )


def test_multiply_adds() -> None:
    """Of 7 events of width 4, per head: query, key and value matrices 4 x 4, scores and sum 7 x 4."""
    assert TestEventAttention().build().multiply_adds(7) == 2 * (3 * 16 + 2 * 7 * 4)
