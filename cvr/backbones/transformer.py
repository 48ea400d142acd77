"""A Transformer encoder over global tokens (paper section 3.1, PAPERS 3.4)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.backbones._tokens import TokenBackbone, check_factors
from cvr.layers.encoder_block import EncoderBlock
from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.pooling import POOLINGS


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors: d_model, sequence length, layers, heads, ffn_dim. A `head_width` of 0 is the model width, for every head."""

    model_width: int = 32
    tokens: int = 16
    layers: int = 2
    heads: int = 2
    ffn_width: int = 256
    head_width: int = 0
    token_layers: int = 2
    activation: str = "relu"
    norm: str = "pre"
    pooling: str = "mean"

    def __post_init__(self) -> None:
        check_factors(self, ("head_width", "token_layers"), activation=tuple(ACTIVATIONS), norm=("pre", "post"), pooling=POOLINGS)


VARIANTS = {
    "S": {"model_width": 16, "tokens": 8, "ffn_width": 64},
    "M": {"model_width": 32, "tokens": 16},  # the paper's default
    "L": {"model_width": 32, "tokens": 64},  # the compute of its default DCN-V2
    "XL": {"model_width": 32, "tokens": 128},  # its best Transformer
}


class Backbone(TokenBackbone):
    """pool(LN(E_n( ... E_1(tokens(x0)) ...))) with encoder layers E_i; no LN of its own where `norm` is post.

    Multiply-adds per item: k (L d)^2 for the tokens and n (H (4 L d h + 2 L^2 h) + 2 L d f) for the layers, h the head width.
    """

    def __init__(self, config: Config, **kwargs: object) -> None:
        sizes = (config.heads, config.head_width or config.model_width, config.ffn_width, config.activation, config.norm)
        super().__init__(config, [EncoderBlock(*sizes, name=f"block_{i}") for i in range(config.layers)], **kwargs)
        self._norm = tf.keras.layers.LayerNormalization(name="norm") if config.norm == "pre" else None

    def interact(self, tokens: tf.Tensor, training: bool) -> tf.Tensor:
        """The layers and, with `norm` pre, a last norm: `[N, L, d]` -> `[N, L, d]`."""
        tokens = super().interact(tokens, training)
        return self._norm(tokens) if self._norm else tokens
