"""A Transformer encoder over global tokens (paper section 3.1, PAPERS 3.4)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.layers.encoder_block import EncoderBlock
from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.global_tokens import GlobalTokens
from cvr.layers.pooling import POOLINGS, pool, pooled_width


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
        if min(self.model_width, self.tokens, self.layers, self.heads, self.ffn_width) < 1:
            raise ValueError("widths and numbers of tokens, layers and heads are at least 1")
        if min(self.head_width, self.token_layers) < 0:
            raise ValueError("head_width and token_layers are at least 0")
        for name, known in (("activation", tuple(ACTIVATIONS)), ("norm", ("pre", "post")), ("pooling", POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")


VARIANTS = {
    "S": {"model_width": 16, "tokens": 8, "ffn_width": 64},
    "M": {"model_width": 32, "tokens": 16},  # the paper's default
    "L": {"model_width": 32, "tokens": 64},  # the compute of its default DCN-V2
    "XL": {"model_width": 32, "tokens": 128},  # its best Transformer
}


class Backbone(tf.keras.layers.Layer):
    """pool(LN(E_n( ... E_1(tokens(x0)) ...))) with encoder layers E_i; no LN of its own where `norm` is post."""

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._tokens = GlobalTokens(config.tokens, config.model_width, config.token_layers, name="tokens")
        sizes = (config.heads, config.head_width or config.model_width, config.ffn_width, config.activation, config.norm)
        self._blocks = [EncoderBlock(*sizes, name=f"block_{i}") for i in range(config.layers)]
        self._norm = tf.keras.layers.LayerNormalization(name="norm") if config.norm == "pre" else None

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: `tokens`, as wide as all tokens together."""
        return {"tokens": self.config.tokens * self.config.model_width}

    @property
    def width(self) -> int:
        """Of the hidden representation."""
        return pooled_width(self.config.pooling, self.config.tokens, self.config.model_width)

    def multiply_adds(self) -> int:
        """Per item: (k (L d)^2) for the tokens and n (H (4 L d h + 2 L^2 h) + 2 L d f) for the layers, h the head width."""
        length, width = self.config.tokens, self.config.model_width
        return self._tokens.multiply_adds(length * width) + sum(block.multiply_adds(length, width) for block in self._blocks)

    def call(self, views: dict[str, tf.Tensor]) -> tf.Tensor:
        """{tokens: `[N, L d]`} -> `[N, d]`, or `[N, L d]` with `pooling` flatten."""
        tokens = self._tokens(views["tokens"])
        for block in self._blocks:
            tokens = block(tokens)
        return pool(self._norm(tokens) if self._norm else tokens, self.config.pooling)
