"""The recurrent network over a history against its equations, event by event, and what padding and order must do."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.history_gru import HistoryGRU
from tests.layers.case import Arrays, LayerCase
from tests.layers.histories import check_history, history_inputs


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _step(weights: Arrays, state: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Keras' columns are [z | r | n], its biases [of the input; of the state]."""
    inputs = np.split(event @ weights["read/cell/kernel"] + weights["read/cell/bias"][0], 3)
    states = np.split(state @ weights["read/cell/recurrent_kernel"] + weights["read/cell/bias"][1], 3)
    keep, reset = _sigmoid(inputs[0] + states[0]), _sigmoid(inputs[1] + states[1])
    return keep * state + (1 - keep) * np.tanh(inputs[2] + reset * states[2])


class TestHistoryGRU(LayerCase):
    """From the oldest event, at the end, to the most recent one, at the beginning."""

    def make(self) -> HistoryGRU:
        return HistoryGRU()

    def inputs(self, source: np.random.Generator) -> Arrays:
        return history_inputs(source)

    def arguments(self, tensors: list) -> tuple:
        return tuple(tensors)

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        events, real = inputs["events"], inputs["real"]
        states = np.zeros_like(events)
        output = np.tile(weights["empty"], (len(events), 1))
        for row in range(len(events)):
            state = np.zeros(events.shape[2])
            for place in reversed(np.flatnonzero(real[row])):
                state = states[row, place] = _step(weights, state, events[row, place])
                output[row] = state
        return {"states": states, "output": output}


@pytest.fixture(scope="module")
def layer() -> HistoryGRU:
    return TestHistoryGRU().build()


def test_padding_emptiness_and_unseen(layer: HistoryGRU) -> None:
    check_history(layer)


def test_reads_oldest_to_newest(layer: HistoryGRU) -> None:
    """The state after the two oldest events does not know the newest one."""
    source = np.random.default_rng(2)
    events, real = tf.constant(source.normal(0, 1, (1, 3, 4)), tf.float32), tf.ones([1, 3], tf.bool)
    changed = tf.concat([events[:, :1] + 1.0, events[:, 1:]], axis=1)
    before, after = (layer.trace(x, real)["states"].numpy() for x in (events, changed))
    np.testing.assert_array_equal(before[:, 1:], after[:, 1:])
    assert np.abs(before[:, 0] - after[:, 0]).max() > 0.01
    np.testing.assert_array_equal(layer(events, real), before[:, 0])


def test_in_a_compiled_graph(layer: HistoryGRU) -> None:
    inputs = history_inputs(np.random.default_rng(4))
    events, real = tf.constant(inputs["events"], tf.float32), tf.constant(inputs["real"])
    compiled = tf.function(layer.call, autograph=False, jit_compile=True)
    np.testing.assert_allclose(compiled(events, real), layer(events, real), rtol=1e-5, atol=1e-5)


def test_multiply_adds(layer: HistoryGRU) -> None:
    """Three gates, each a product with the event and one with the state, 4 x 4, 5 times."""
    assert layer.list_multiply_adds(5) == 5 * 6 * 16 and layer.item_multiply_adds(5) == 0
