"""The mean of the events."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.encoders.behaviour import Behaviour
from cvr.layers.history_mean import HistoryMean

PER_ITEM = False


@dataclasses.dataclass(frozen=True)
class Config:
    """No factors."""


def make(config: Config, length: int, dim: int, name: str) -> HistoryMean:
    """The layer; see `cvr.encoders`."""
    del config, length, dim
    return HistoryMean(name=name)


def encode(layer: HistoryMean, behaviour: Behaviour) -> tf.Tensor:
    """`[B, d]`."""
    return layer(behaviour.events, behaviour.real)
