"""DAGFM: feature interactions along a directed acyclic graph of tokens, KD-DAGFM's student (WSDM'23; PAPERS 3.10)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.backbones._tokens import TokenBackbone, check_factors
from cvr.layers.dag_interaction import INTERACTIONS, DagInteraction

READOUTS = ("sums", "states")


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors: tokens T, which are the graph's nodes, their width d, propagation steps L; how a node reads others; the readout.

    The paper's nodes are feature fields; here they are the tokens that the projection makes, so that T is free.
    """

    model_width: int = 16
    tokens: int = 16
    depth: int = 3
    interaction: str = "outer"
    readout: str = "sums"
    layer_norm: bool = True
    token_layers: int = 1

    def __post_init__(self) -> None:
        check_factors(self, ("token_layers",), interaction=INTERACTIONS, readout=READOUTS)


VARIANTS = {
    "S": {"model_width": 8, "tokens": 8},
    "M": {"model_width": 16, "tokens": 16},
    "L": {"model_width": 32, "tokens": 32},
    "XL": {"model_width": 64, "tokens": 64},
}


class Backbone(TokenBackbone):
    """Of the states h^0 .. h^L: `sums` [sum_d h^0; ...; sum_d h^L], which is DAGFM's, or `states` flatten(h^0 + ... + h^L), DeepDAGFM's.

    A layer norm follows, which the paper does not have: products of L + 1 tokens have no bound, and on unusual inputs logits would be so
    large that float32 could not repeat them to 1e-5. Then comes the head, in the place of the paper's linear map, or of its network.
    """

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(config, [DagInteraction(config.depth, config.interaction, name="block_0")], **kwargs)
        self._norm = tf.keras.layers.LayerNormalization(name="norm") if config.layer_norm else tf.identity

    @property
    def width(self) -> int:
        """Of the hidden representation: T (L + 1), or T d."""
        return self.config.tokens * (self.config.depth + 1 if self.config.readout == "sums" else self.config.model_width)

    def call(self, views: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """{tokens: `[N, T d]`} -> `[N, T (L + 1)]`, or `[N, T d]` with the readout `states`."""
        states = self.interact(self._tokens(views["tokens"]), training)
        read = tf.reduce_sum(states, axis=3 if self.config.readout == "sums" else 1)
        return self._norm(tf.reshape(read, [-1, self.width]))
