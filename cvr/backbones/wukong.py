"""Wukong: stacked factorization machines and linear compressions over global tokens (2024; PAPERS 3.7)."""

from __future__ import annotations

import dataclasses

from cvr.backbones._tokens import TokenBackbone, check_factors
from cvr.layers.pooling import POOLINGS
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
        check_factors(self, ("fm_rank", "mlp_layers", "token_layers"), pooling=POOLINGS)


VARIANTS = {
    "S": {"model_width": 16, "tokens": 8, "fm_tokens": 4, "linear_tokens": 4, "mlp_width": 64},
    "M": {"model_width": 32, "tokens": 16, "layers": 3, "mlp_width": 256},
    "L": {"model_width": 32, "tokens": 64, "layers": 4, "fm_tokens": 32, "linear_tokens": 32, "fm_rank": 16, "mlp_width": 1024},
    "XL": {"model_width": 32, "tokens": 128, "layers": 4, "fm_tokens": 64, "linear_tokens": 64, "fm_rank": 24, "mlp_width": 2048},
}


class Backbone(TokenBackbone):
    """pool(W_l( ... W_1(tokens(x0)) ...)) with Wukong layers W_i; the original flattens its last tokens."""

    def __init__(self, config: Config, **kwargs: object) -> None:
        sizes = (config.fm_tokens, config.linear_tokens, config.fm_rank, config.mlp_width, config.mlp_layers)
        super().__init__(config, [WukongBlock(*sizes, name=f"block_{i}") for i in range(config.layers)], **kwargs)

    @property
    def lengths(self) -> list[int]:
        """n tokens before the first layer, n_F + n_L after each."""
        return [self.config.tokens, *(block.tokens for block in self._blocks)]
