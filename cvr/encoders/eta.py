"""Each item attends to the events most like it, found by hashing in a history of any length, and to the most recent ones (ETA)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.encoders.behaviour import Behaviour
from cvr.layers.retrieval_attention import RetrievalAttention

PER_ITEM = True


@dataclasses.dataclass(frozen=True)
class Config:
    """`bits` of a code, `top_k` nearest and `recent` last events that are read (0 for none), `heads`; `seed` of the hash's directions."""

    bits: int = 64
    top_k: int = 50
    recent: int = 50
    heads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.bits, self.heads) < 1 or min(self.top_k, self.recent, self.seed) < 0:
            raise ValueError("bits and heads are at least 1, top_k, recent and seed at least 0")
        if not self.top_k + self.recent:
            raise ValueError("top_k and recent are both 0: no event would be read")


def make(config: Config, length: int, dim: int, name: str) -> RetrievalAttention:
    """The layer; see `cvr.encoders`."""
    del length, dim
    return RetrievalAttention(config.bits, config.top_k, config.recent, config.heads, config.seed, name=name)


def encode(layer: RetrievalAttention, behaviour: Behaviour) -> tf.Tensor:
    """`[N, 2 H d]`, `[N, H d]` where `top_k` or `recent` is 0."""
    own = behaviour.candidates, behaviour.items, behaviour.events, behaviour.real
    return layer(*own, behaviour.match, behaviour.list_index)
