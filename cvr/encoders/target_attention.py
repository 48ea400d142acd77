"""Each item attends to the events."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.encoders.behaviour import Behaviour
from cvr.layers.target_attention import TargetAttention

PER_ITEM = True


@dataclasses.dataclass(frozen=True)
class Config:
    """No factors."""


def make(config: Config, length: int, dim: int, name: str) -> TargetAttention:
    """The layer; see `cvr.encoders`."""
    del config, length
    return TargetAttention(dim, name=name)


def encode(layer: TargetAttention, behaviour: Behaviour) -> tf.Tensor:
    """`[N, d]`."""
    return layer(behaviour.candidates, behaviour.events, behaviour.real, behaviour.match, behaviour.list_index)
