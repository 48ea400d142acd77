"""The mean of a history's real events, and the empty history."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.history_mean import HistoryMean


def test_mean_of_real_events_and_a_vector_for_none() -> None:
    events = tf.constant([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]], [[5.0, 5.0], [5.0, 5.0], [5.0, 5.0]]])
    real = tf.constant([[True, True, False], [False, False, False]])
    layer = HistoryMean()
    layer(events, real)
    layer.empty.assign([-1.0, -2.0])
    np.testing.assert_allclose(layer(events, real), [[2.0, 4.0], [-1.0, -2.0]])


def test_longer_padding_changes_nothing() -> None:
    source = np.random.default_rng(0)
    events = source.normal(0, 1, (4, 3, 2)).astype(np.float32)
    real = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    layer = HistoryMean()
    short = layer(tf.constant(events), tf.constant(real))
    padded = layer(tf.constant(np.pad(events, [(0, 0), (0, 5), (0, 0)])), tf.constant(np.pad(real, [(0, 0), (0, 5)])))
    np.testing.assert_allclose(padded, short, rtol=1e-6)
