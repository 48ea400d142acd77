"""LightSUAN: SUAN with sparse attention inside a history, which all candidates of its list share."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.encoders.behaviour import Behaviour
from cvr.encoders.suan import encode as encode_suan
from cvr.layers.stacked_attention import StackedAttention
from cvr.layers.unified_factors import UnifiedFactors

PER_ITEM = True


@dataclasses.dataclass(frozen=True)
class Config:
    """As SUAN's, with `gate: position`, without which candidates could not share a history; `window`: an event sees so many of the most
    recent events up to itself (0: all of them), and older ones at distances that are multiples of `dilation` (0: none)."""

    layers: int = 2
    width: int = 32
    heads: int = 2
    hidden: int = 3
    residual: str = "code"
    window: int = 8
    dilation: int = 4
    time_buckets: int = 128
    tile: int = 8

    def __post_init__(self) -> None:
        self.factors()

    def factors(self) -> UnifiedFactors:
        """Of the layer. Raises ValueError for values that do not fit together."""
        return UnifiedFactors(gate="position", **dataclasses.asdict(self))


def make(config: Config, length: int, dim: int, name: str) -> StackedAttention:
    """The layer; see `cvr.encoders`."""
    del dim
    return StackedAttention(length, config.factors(), name=name)


def encode(layer: StackedAttention, behaviour: Behaviour) -> tf.Tensor:
    """`[N, width]`."""
    return encode_suan(layer, behaviour)
