"""RankMixer: token mixing without weights and a feed-forward network per token (CIKM'25; paper section 3.1, PAPERS 3.3)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.layers.feed_forward import ACTIVATIONS
from cvr.layers.global_tokens import GlobalTokens
from cvr.layers.mixer_block import MixerBlock
from cvr.layers.per_token_ffn import PerTokenFFN
from cvr.layers.pooling import POOLINGS, pool, pooled_width
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
        if min(self.model_width, self.tokens, self.layers, self.ffn_width) < 1 or min(self.token_layers, self.ffn_experts) < 0:
            raise ValueError("widths and numbers of tokens and layers are at least 1, token_layers and ffn_experts at least 0")
        if self.model_width % self.tokens:
            raise ValueError(f"model_width {self.model_width} must be a multiple of tokens {self.tokens}: each token has a head for each")
        if not 0.0 < self.active_share <= 1.0:
            raise ValueError(f"active_share is above 0 and at most 1, not {self.active_share}")
        for name, known in (("activation", tuple(ACTIVATIONS)), ("pooling", POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")


VARIANTS = {
    "S": {"model_width": 16, "tokens": 8, "ffn_width": 64},
    "M": {"model_width": 64, "tokens": 16, "ffn_width": 256},  # the paper's default
    "L": {"model_width": 128, "tokens": 16, "ffn_width": 512},  # the compute of its default DCN-V2
    "XL": {"model_width": 256, "tokens": 16, "ffn_width": 1024},
}


class Backbone(tf.keras.layers.Layer):
    """pool(M_n( ... M_1(tokens(x0)) ...)) with mixer layers M_i.

    With sparse experts a row takes the same router in all layers; which rows take the first one alternates from step to step.
    """

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._tokens = GlobalTokens(config.tokens, config.model_width, config.token_layers, name="tokens")
        self._blocks = [MixerBlock(self._ffn(), name=f"block_{i}") for i in range(config.layers)]
        if config.ffn_experts:
            self._steps = self.add_weight("steps", shape=[], dtype=tf.int64, initializer="zeros", trainable=False)

    def _ffn(self) -> PerTokenFFN | SparsePerTokenFFN:
        config = self.config
        if not config.ffn_experts:
            return PerTokenFFN(config.ffn_width, config.activation, name="ffn")
        sizes = (config.ffn_width, config.ffn_experts, config.active_share, config.activation)
        return SparsePerTokenFFN(*sizes, average=config.expert_average, dispatch=config.expert_dispatch, name="experts")

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: `tokens`, as wide as all tokens together."""
        return {"tokens": self.config.tokens * self.config.model_width}

    @property
    def width(self) -> int:
        """Of the hidden representation."""
        return pooled_width(self.config.pooling, self.config.tokens, self.config.model_width)

    def multiply_adds(self) -> int:
        """Per item: k (T D)^2 for the tokens and 2 n T D f for the layers; mixing is free. Of sparse experts those that are used."""
        count, width = self.config.tokens, self.config.model_width
        return self._tokens.multiply_adds(count * width) + sum(block.multiply_adds(count, width) for block in self._blocks)

    def call(self, views: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """{tokens: `[N, T D]`} -> `[N, D]`, or `[N, T D]` with `pooling` flatten."""
        tokens = self._tokens(views["tokens"])
        dense_rows = self._dense_rows(tokens) if training and self.config.ffn_experts else None
        for block in self._blocks:
            tokens = block(tokens) if dense_rows is None else block(tokens, dense_rows=dense_rows)
        return pool(tokens, self.config.pooling)

    def _dense_rows(self, tokens: tf.Tensor) -> tf.Tensor:
        """Every second row, the others at the next step: bool `[N]`."""
        step = self._steps.assign_add(1)
        return tf.equal((tf.range(tf.shape(tokens, tf.int64)[0]) + step) % 2, 0)
