"""Bytes of activations: worked out by hand on small networks, and how they grow."""

from __future__ import annotations

import pytest
import tensorflow as tf

from cvr.activations import kept_bytes, peak_bytes
from cvr.layers.history_gru import HistoryGRU
from cvr.layers.self_attention import SelfAttention
from cvr.tracing import trace_scoring, trace_training

FLOAT = 4


class _Network(tf.keras.Model):
    """Layers one after the other on `x`."""

    def __init__(self, *layers: tf.keras.layers.Layer) -> None:
        super().__init__()
        self.chain = list(layers)

    def call(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        x = batch["x"]
        for layer in self.chain:
            x = layer(x)
        return x


def _kept(shape: list[int], *layers: tf.keras.layers.Layer) -> int:
    network = _Network(*layers)
    network({"x": tf.zeros(shape)})
    return kept_bytes(trace_training(network, {"x": tf.TensorSpec(shape)}), 1)


def test_dense_layers_by_hand() -> None:
    """x -> a = relu(x W + b) -> a V + c: the backward pass reads a alone, which serves relu's gradient and V's; x is the batch."""
    layers = (tf.keras.layers.Dense(5, "relu"), tf.keras.layers.Dense(4))
    assert _kept([8, 3], *layers) == 8 * 5 * FLOAT
    network = _Network(*layers)
    trace = trace_scoring(network, {"x": tf.TensorSpec([8, 3])})
    assert peak_bytes(trace, 1) == 2 * 8 * 5 * FLOAT  # the sum with b beside x W, or beside its relu


def test_renamed_tensors_count_once() -> None:
    layers = (tf.keras.layers.Dense(6, "relu"), tf.keras.layers.Reshape([3, 2]), tf.keras.layers.Flatten(), tf.keras.layers.Dense(4))
    assert _kept([8, 3], *layers) == 8 * 6 * FLOAT


def test_attention_keeps_its_weights_once() -> None:
    """All else grows with the number of tokens L, the weights `[N, H, L, L]` with its square."""
    two, four, six = (_kept([5, length, 6], SelfAttention(2, 3)) for length in (2, 4, 6))
    assert six - 2 * four + two == 5 * 2 * (6**2 - 2 * 4**2 + 2**2) * FLOAT


def test_a_recurrent_network_keeps_every_step() -> None:
    """Per event of width d: the event, the state and what the gates and their products made, between 5 and 15 vectors `[B, d]`."""
    two, four, six = (_kept([5, length, 3], _Events()) for length in (2, 4, 6))
    assert four - two == six - four
    assert 5 < (four - two) / (2 * 5 * 3 * FLOAT) < 15


class _Events(HistoryGRU):
    """All events are real."""

    def call(self, events: tf.Tensor) -> tf.Tensor:
        return super().call(events, tf.ones(events.shape[:2], tf.bool))


@pytest.mark.parametrize("longest", [3, 7])
def test_an_unknown_length_is_that_of_the_longest_list(longest: int) -> None:
    layer = tf.keras.layers.Lambda(lambda x: tf.reduce_sum(tf.fill([8, tf.reduce_max(tf.cast(x, tf.int32))], 1.0), axis=1))
    trace = trace_scoring(_Network(layer), {"x": tf.TensorSpec([2])})
    assert peak_bytes(trace, longest) == 8 * longest * FLOAT + 8 * FLOAT
