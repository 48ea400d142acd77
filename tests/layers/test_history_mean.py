"""The mean of a history's real events, and the empty history."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.history_mean import HistoryMean, shares_of
from tests.layers.case import Arrays, LayerCase
from tests.layers.histories import check_history, history_inputs


class TestHistoryMean(LayerCase):
    def make(self) -> HistoryMean:
        return HistoryMean()

    def inputs(self, source: np.random.Generator) -> Arrays:
        return history_inputs(source)

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        events, real = inputs["events"], inputs["real"]
        mean = np.array([events[b, real[b]].mean(axis=0) if real[b].any() else np.zeros(4) for b in range(len(events))])
        shares = np.array([row / max(1, row.sum()) for row in real.astype(float)])
        return {"shares": shares, "mean": mean, "output": np.where(real.any(axis=1)[:, None], mean, weights["empty"])}


def test_padding_emptiness_and_unseen() -> None:
    check_history(TestHistoryMean().build())


def test_long_histories_are_counted_exactly_in_bfloat16() -> None:
    """A sum of 301 ones in bfloat16 would stop at 256."""
    shares = shares_of(tf.ones([1, 301], tf.bool), tf.bfloat16)
    np.testing.assert_allclose(tf.cast(shares, tf.float32), 1 / 301, rtol=0.01)


def test_multiply_adds() -> None:
    layer = TestHistoryMean().build()
    assert layer.list_multiply_adds(5) == 5 * 4 and layer.item_multiply_adds(5) == 0
