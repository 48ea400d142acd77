"""Starting values of kernels whose shape does not tell their fan-in."""

from __future__ import annotations

import tensorflow as tf

CUT = 0.87962566
"""Standard deviation of a standard normal cut at two standard deviations."""


def normal(fan_in: int, gain: float = 2.0) -> tf.keras.initializers.Initializer:
    """A truncated normal of variance gain / fan_in: He (gain 2) or LeCun (gain 1).

    Keras' own initialisers take all axes but the last two for a receptive field: on kernels `[T, D, F]` of T tokens they would start
    sqrt(T) too small.
    """
    return tf.keras.initializers.TruncatedNormal(stddev=(gain / fan_in) ** 0.5 / CUT)
