"""RankMixer: token mixing without weights and a feed-forward network per token (CIKM'25; paper section 3.1, PAPERS 3.3)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.backbones._tokens import TokenBackbone, check_factors
from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.mixer_block import MixerBlock
from cvr.layers.per_token_ffn import PerTokenFFN
from cvr.layers.pooling import POOLINGS
from cvr.layers.sparse_per_token_ffn import SparsePerTokenFFN


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors: d_model, sequence length, layers, ffn_dim. There are as many heads as tokens, so tokens divide the model width.

    With `ffn_experts` E above 0 every token has E experts, of which a share of `active_share` works at inference.
    """

    model_width: int = 64
    tokens: int = 16
    layers: int = 2
    ffn_width: int = 256
    token_layers: int = 2
    activation: str = "gelu"
    pooling: str = "mean"
    ffn_experts: int = 0
    active_share: float = 0.25
    expert_average: bool = False
    expert_dispatch: bool = True

    def __post_init__(self) -> None:
        check_factors(self, ("token_layers", "ffn_experts"), activation=tuple(ACTIVATIONS), pooling=POOLINGS)
        if self.model_width % self.tokens:
            raise ValueError(f"model_width {self.model_width} must be a multiple of tokens {self.tokens}: each token has a head for each")
        if not 0.0 < self.active_share <= 1.0:
            raise ValueError(f"active_share is above 0 and at most 1, not {self.active_share}")


VARIANTS = {
    "S": {"model_width": 16, "tokens": 8, "ffn_width": 64},
    "M": {"model_width": 64, "tokens": 16, "ffn_width": 256},  # the paper's default
    "L": {"model_width": 128, "tokens": 16, "ffn_width": 512},  # the compute of its default DCN-V2
    "XL": {"model_width": 256, "tokens": 16, "ffn_width": 1024},
}


class Backbone(TokenBackbone):
    """pool(M_n( ... M_1(tokens(x0)) ...)) with mixer layers M_i.

    Multiply-adds per item: k (T D)^2 for the tokens and 2 n T D f for the layers; mixing is free. Of sparse experts those that are used.
    With sparse experts a row takes the same router in all layers; which rows take the first one alternates from step to step.
    """

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(config, [MixerBlock(_ffn(config), name=f"block_{i}") for i in range(config.layers)], **kwargs)
        if config.ffn_experts:
            self._steps = self.add_weight("steps", shape=[], dtype=tf.int64, initializer="zeros", trainable=False)

    def interact(self, tokens: tf.Tensor, training: bool) -> tf.Tensor:
        """The layers: `[N, T, D]` -> `[N, T, D]`."""
        if not (training and self.config.ffn_experts):
            return super().interact(tokens, training)
        dense_rows = self._dense_rows(tokens)
        for block in self._blocks:
            tokens = block(tokens, dense_rows=dense_rows)
        return tokens

    def _dense_rows(self, tokens: tf.Tensor) -> tf.Tensor:
        """Every second row, the others at the next step: bool `[N]`."""
        step = self._steps.assign_add(1)
        return tf.equal((tf.range(tf.shape(tokens, tf.int64)[0]) + step) % 2, 0)


def _ffn(config: Config) -> PerTokenFFN | SparsePerTokenFFN:
    if not config.ffn_experts:
        return PerTokenFFN(config.ffn_width, config.activation, name="ffn")
    sizes = (config.ffn_width, config.ffn_experts, config.active_share, config.activation)
    return SparsePerTokenFFN(*sizes, average=config.expert_average, dispatch=config.expert_dispatch, name="experts")
