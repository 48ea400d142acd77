"""What every encoder of a whole history must do, and inputs for their cases."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.layers.case import Arrays


def history_inputs(source: np.random.Generator) -> Arrays:
    """Five lists of up to four events of width 4: all real, some, one, none, all."""
    real = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]], bool)
    return {"events": source.normal(0, 1, (5, 4, 4)), "real": real}


def check_history(layer: tf.keras.layers.Layer) -> None:
    """Appended padding changes nothing whatever it holds, no event gives `empty`, and one event of zeros does not."""
    inputs = history_inputs(np.random.default_rng(4))
    events, real = inputs["events"].astype(np.float32), inputs["real"]
    output = layer(tf.constant(events), tf.constant(real)).numpy()
    longer = np.pad(events, [(0, 0), (0, 3), (0, 0)], constant_values=50.0)
    longer[:, :4][~real] = -50.0
    padded = layer(tf.constant(longer), tf.constant(np.pad(real, [(0, 0), (0, 3)])))
    np.testing.assert_allclose(padded, output, rtol=1e-5, atol=1e-5)
    shorter = layer(tf.constant(events[1:2, :2]), tf.constant(real[1:2, :2]))
    np.testing.assert_allclose(shorter, output[1:2], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(output[3], layer.empty)
    one = layer(tf.zeros([1, 4, 4]), tf.constant([[True, False, False, False]]))
    assert np.abs(one - output[3:4]).max() > 0.01
