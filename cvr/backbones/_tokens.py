"""What the backbones over global tokens share. Not a backbone itself: modules whose name begins with `_` are not found as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from cvr.layers.global_tokens import GlobalTokens
from cvr.layers.pooling import pool, pooled_width


def check_factors(config: Any, zero: Sequence[str] = (), **choices: Sequence[str]) -> None:
    """Raises ValueError for a whole number below 1 (below 0 for those in `zero`) and for a text that is none of its `choices`."""
    for field in dataclasses.fields(config):
        value, least = getattr(config, field.name), 0 if field.name in zero else 1
        if type(value) is int and value < least:
            raise ValueError(f"{field.name} is at least {least}, not {value}")
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise ValueError(f"{name} is {' or '.join(known)}, not {getattr(config, name)!r}")


class TokenBackbone(tf.keras.layers.Layer):
    """pool(B_n( ... B_1(tokens(x0)) ...)): x0 cut into global tokens (PAPERS R28), blocks B_i over them, and one vector of the last ones.

    A subclass makes the `blocks`. Its Config has `tokens` T, `model_width` d, `token_layers` and `pooling`.
    """

    def __init__(self, config: Any, blocks: Sequence[tf.keras.layers.Layer], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._tokens = GlobalTokens(config.tokens, config.model_width, config.token_layers, name="tokens")
        self._blocks = list(blocks)

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: `tokens`, as wide as all tokens together."""
        return {"tokens": self.config.tokens * self.config.model_width}

    @property
    def lengths(self) -> list[int]:
        """Numbers of tokens: before each block, and after the last."""
        return [self.config.tokens] * (len(self._blocks) + 1)

    @property
    def width(self) -> int:
        """Of the hidden representation."""
        return pooled_width(self.config.pooling, self.lengths[-1], self.config.model_width)

    def parts(self) -> dict[str, int]:
        """Multiply-adds per item of the layers that make the tokens, k (T d)^2, and of the blocks."""
        blocks = zip(self._blocks, self.lengths[:-1], strict=True)
        return {
            "tokens": self._tokens.multiply_adds(self.views["tokens"]),
            "block": sum(block.multiply_adds(length, self.config.model_width) for block, length in blocks),
        }

    def multiply_adds(self) -> int:
        """Per item: the sum of the parts."""
        return sum(self.parts().values())

    def call(self, views: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """{tokens: `[N, T d]`} -> `[N, d]`, or all tokens side by side with `pooling` flatten."""
        return pool(self.interact(self._tokens(views["tokens"]), training), self.config.pooling)

    def interact(self, tokens: tf.Tensor, training: bool) -> tf.Tensor:
        """The blocks, one after the other: `[N, T, d]` -> the last tokens."""
        del training
        for block in self._blocks:
            tokens = block(tokens)
        return tokens
