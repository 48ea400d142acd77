"""Stacked unified attention (SUAN): a candidate as the newest token of a sequence that also reads the list's other features."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.encoders.behaviour import Behaviour
from cvr.layers.stacked_attention import StackedAttention
from cvr.layers.unified_factors import UnifiedFactors

PER_ITEM = True


@dataclasses.dataclass(frozen=True)
class Config:
    """`layers` is the grade; `width`, which the `heads` divide; `hidden`: inner width over width; `residual` code or clean; `gate` sample
    (as in SUAN's code: from the first gate on, each candidate has a sequence of its own) or position; `time_buckets`; `tile`: candidates of
    a list that are multiplied with its history together."""

    layers: int = 2
    width: int = 32
    heads: int = 2
    hidden: int = 3
    residual: str = "code"
    gate: str = "sample"
    time_buckets: int = 128
    tile: int = 8

    def __post_init__(self) -> None:
        self.factors()

    def factors(self) -> UnifiedFactors:
        """Of the layer. Raises ValueError for values that do not fit together."""
        return UnifiedFactors(**dataclasses.asdict(self))


def make(config: Config, length: int, dim: int, name: str) -> StackedAttention:
    """The layer; see `cvr.encoders`."""
    del dim
    return StackedAttention(length, config.factors(), name=name)


def encode(layer: StackedAttention, behaviour: Behaviour) -> tf.Tensor:
    """`[N, width]`."""
    own = (behaviour.candidates, behaviour.events, behaviour.real, behaviour.age, behaviour.match, behaviour.list_index)
    return layer(*own, profile=behaviour.profile)
