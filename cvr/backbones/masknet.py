"""MaskNet with parallel mask blocks, each optionally followed by stacked ones (paper section 3.1, PAPERS 3.2)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.layers.mask_block import MaskBlock


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors: cross width w, deep width h, number of parallel blocks P and of blocks stacked in each, S."""

    cross_width: int = 256
    deep_width: int = 128
    parallel_blocks: int = 2
    sequential_blocks: int = 1
    layer_norm: bool = True

    def __post_init__(self) -> None:
        if min(self.cross_width, self.deep_width, self.parallel_blocks, self.sequential_blocks) < 1:
            raise ValueError("widths and numbers of blocks are at least 1")


VARIANTS = {
    "S": {"cross_width": 128, "deep_width": 128},
    "M": {"cross_width": 512, "deep_width": 512},
    "L": {"cross_width": 2048, "deep_width": 1024},  # the paper's default
    "XL": {"cross_width": 4096, "deep_width": 1024},  # its eightfold compute
}


class Backbone(tf.keras.layers.Layer):
    """Concat over p of M_pS(... M_p2(M_p1(x0, x0), x0) ..., x0); M(x, x0) is a mask block of width h whose mask reads x0.

    With S = 1 this is the paper's parallel form, with P = 1 its sequential form.
    """

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._branches = [
            [
                MaskBlock(config.deep_width, 2 * config.cross_width, config.layer_norm, name=f"block_{p}_{s}")
                for s in range(config.sequential_blocks)
            ]
            for p in range(config.parallel_blocks)
        ]

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: `cross`."""
        return {"cross": self.config.cross_width}

    @property
    def width(self) -> int:
        """Of the hidden representation: P h."""
        return self.config.parallel_blocks * self.config.deep_width

    def multiply_adds(self) -> int:
        """Per item: P (2 w t + w h + (S - 1) (w t + t h + h^2)) with t = 2 w."""
        cross, deep = self.config.cross_width, self.config.deep_width
        return sum(
            block.multiply_adds(cross, deep if place else cross)
            for branch in self._branches
            for place, block in enumerate(branch)
        )

    def call(self, views: dict[str, tf.Tensor]) -> tf.Tensor:
        """{cross: `[N, w]`} -> `[N, P * h]`."""
        first = views["cross"]
        outputs = []
        for branch in self._branches:
            current = first
            for block in branch:
                current = block((first, current))
            outputs.append(current)
        return tf.concat(outputs, axis=1)
