"""A Transformer encoder over the events, and the mean of what it makes of them."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.encoders.behaviour import Behaviour
from cvr.layers.history_transformer import HistoryTransformer

PER_ITEM = False


@dataclasses.dataclass(frozen=True)
class Config:
    """`heads`, each as wide as an event, and encoder `layers`."""

    heads: int = 2
    layers: int = 1

    def __post_init__(self) -> None:
        if min(self.heads, self.layers) < 1:
            raise ValueError("heads and layers are at least 1")


def make(config: Config, length: int, dim: int, name: str) -> HistoryTransformer:
    """The layer; see `cvr.encoders`."""
    del dim
    return HistoryTransformer(length, config.heads, config.layers, name=name)


def encode(layer: HistoryTransformer, behaviour: Behaviour) -> tf.Tensor:
    """`[B, d]`."""
    return layer(behaviour.events, behaviour.real)
