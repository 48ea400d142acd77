"""A decoder-only Transformer over the events, in which each item comes after the most recent one; `cvr.pretrain` trains it generatively."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.encoders.behaviour import Behaviour
from cvr.layers.history_decoder import HistoryDecoder

PER_ITEM = True


@dataclasses.dataclass(frozen=True)
class Config:
    """`heads`, which share an event's width, and decoder `layers`."""

    heads: int = 1
    layers: int = 2

    def __post_init__(self) -> None:
        if min(self.heads, self.layers) < 1:
            raise ValueError("heads and layers are at least 1")


def make(config: Config, length: int, dim: int, name: str) -> HistoryDecoder:
    """The layer; see `cvr.encoders`. Raises ValueError where a head's width is not a whole even number."""
    del length
    if dim % (2 * config.heads):
        raise ValueError(f"heads={config.heads} and events of width {dim}: the width must be a multiple of {2 * config.heads}")
    return HistoryDecoder(config.heads, config.layers, name=name)


def encode(layer: HistoryDecoder, behaviour: Behaviour) -> tf.Tensor:
    """`[N, d]`."""
    return layer(behaviour.events, behaviour.real, behaviour.candidates, behaviour.list_index)
