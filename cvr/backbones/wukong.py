"""Wukong: stacked factorization machines and linear compressions over global tokens (2024; PAPERS 3.7)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.layers.global_tokens import GlobalTokens
from cvr.layers.pooling import POOLINGS, pool, pooled_width
from cvr.layers.wukong_block import WukongBlock


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors: layers l, output tokens of the two blocks n_F and n_L, the factorization's rank k (0: full), its MLP."""

    model_width: int = 32
    tokens: int = 16
    layers: int = 2
    fm_tokens: int = 8
    linear_tokens: int = 8
    fm_rank: int = 8
    mlp_width: int = 128
    mlp_layers: int = 1
    token_layers: int = 2
    pooling: str = "flatten"

    def __post_init__(self) -> None:
        if min(self.model_width, self.tokens, self.layers, self.fm_tokens, self.linear_tokens, self.mlp_width) < 1:
            raise ValueError("widths and numbers of tokens and layers are at least 1")
        if min(self.fm_rank, self.mlp_layers, self.token_layers) < 0:
            raise ValueError("fm_rank, mlp_layers and token_layers are at least 0")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {' or '.join(POOLINGS)}, not {self.pooling!r}")


VARIANTS = {
    "S": {"model_width": 16, "tokens": 8, "fm_tokens": 4, "linear_tokens": 4, "mlp_width": 64},
    "M": {"model_width": 32, "tokens": 16, "layers": 3, "mlp_width": 256},
    "L": {"model_width": 32, "tokens": 64, "layers": 4, "fm_tokens": 32, "linear_tokens": 32, "fm_rank": 16, "mlp_width": 1024},
    "XL": {"model_width": 32, "tokens": 128, "layers": 4, "fm_tokens": 64, "linear_tokens": 64, "fm_rank": 24, "mlp_width": 2048},
}


class Backbone(tf.keras.layers.Layer):
    """pool(W_l( ... W_1(tokens(x0)) ...)) with Wukong layers W_i; the original flattens its last tokens."""

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._tokens = GlobalTokens(config.tokens, config.model_width, config.token_layers, name="tokens")
        sizes = (config.fm_tokens, config.linear_tokens, config.fm_rank, config.mlp_width, config.mlp_layers)
        self._blocks = [WukongBlock(*sizes, name=f"block_{i}") for i in range(config.layers)]

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: `tokens`, as wide as all tokens together."""
        return {"tokens": self.config.tokens * self.config.model_width}

    @property
    def width(self) -> int:
        """Of the hidden representation."""
        return pooled_width(self.config.pooling, self._blocks[-1].tokens, self.config.model_width)

    def multiply_adds(self) -> int:
        """Per item: the tokens, and of each layer the factorization 2 n d k, its MLP, the compression n_L n d and a residual."""
        config = self.config
        lengths = [config.tokens, *(block.tokens for block in self._blocks)]
        layers = zip(self._blocks, lengths[:-1], strict=True)
        total = sum(block.multiply_adds(length, config.model_width) for block, length in layers)
        return self._tokens.multiply_adds(config.tokens * config.model_width) + total

    def call(self, views: dict[str, tf.Tensor]) -> tf.Tensor:
        """{tokens: `[N, n d]`} -> `[N, (n_F + n_L) d]`, or `[N, d]` with `pooling` mean."""
        tokens = self._tokens(views["tokens"])
        for block in self._blocks:
            tokens = block(tokens)
        return pool(tokens, self.config.pooling)
