"""Making the weights of inner layers before they are called."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf


def build_all(layers: Iterable[tf.keras.layers.Layer], shape: tf.TensorShape) -> None:
    """Builds layers for inputs of one shape, each under its name, as their first call would.

    For layers with several ways to be called: all of their weights are there, whichever way comes first.
    """
    for layer in layers:
        with tf.name_scope(layer.name):
            layer.build(shape)
