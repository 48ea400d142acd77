"""DCN-V2: a cross tower and a deep tower (WWW'21; paper section 3.1, PAPERS 3.1)."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from cvr.layers.cross import Cross


@dataclasses.dataclass(frozen=True)
class Config:
    """Scaling factors. `cross_rank` 0 is the full matrix; -1 is a quarter of the cross width."""

    cross_width: int = 256
    deep_width: int = 256
    cross_layers: int = 2
    cross_rank: int = -1
    deep_layers: int = 4
    structure: str = "parallel"

    def __post_init__(self) -> None:
        if self.structure not in ("parallel", "stacked"):
            raise ValueError(f"structure is parallel or stacked, not {self.structure!r}")
        if min(self.cross_width, self.deep_width, self.cross_layers, self.deep_layers) < 1 or self.cross_rank < -1:
            raise ValueError("widths and numbers of layers are at least 1, cross_rank at least -1")


VARIANTS = {
    "S": {"cross_width": 128, "deep_width": 128},
    "M": {"cross_width": 512, "deep_width": 512},
    "L": {"cross_width": 1024, "deep_width": 1024},  # the paper's default
    "XL": {"cross_width": 4096, "deep_width": 4096},
}


class Backbone(tf.keras.layers.Layer):
    """parallel: Concat(cross_L(x0), deep(x)), stacked: deep(cross_L(x0)), with x_{l+1} = x0 * (U V x_l + b) + x_l.

    The deep tower's first layer is the projection's second view, so in the parallel structure it reads the raw input, as the paper's FLOPs
    say (PAPERS 1.3); `deep_layers` counts that layer.
    """

    def __init__(self, config: Config, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._is_parallel = config.structure == "parallel"
        # a quarter of a width below 4 would be 0, which means the full matrix
        rank = max(1, config.cross_width // 4) if config.cross_rank == -1 else config.cross_rank
        self._crosses = [Cross(rank, name=f"cross_{i}") for i in range(config.cross_layers)]
        hidden = config.deep_layers - (1 if self._is_parallel else 0)
        self._deep = [
            tf.keras.layers.Dense(config.deep_width, "relu", kernel_initializer="he_normal", name=f"deep_{i}")
            for i in range(hidden)
        ]

    @property
    def views(self) -> dict[str, int]:
        """Projections of the input: `cross`, and `deep` in the parallel structure."""
        views = {"cross": self.config.cross_width}
        return {**views, "deep": self.config.deep_width} if self._is_parallel else views

    @property
    def width(self) -> int:
        """Of the hidden representation."""
        return self.config.deep_width + (self.config.cross_width if self._is_parallel else 0)

    def parts(self) -> dict[str, int]:
        """Multiply-adds per item of the cross layers, and of the deep tower's layers after its first input."""
        cross, deep = self.config.cross_width, self.config.deep_width
        first = deep if self._is_parallel else cross
        tower = first * deep + (len(self._deep) - 1) * deep * deep if self._deep else 0
        return {"cross": sum(layer.multiply_adds(cross) for layer in self._crosses), "deep": tower}

    def multiply_adds(self) -> int:
        """Per item: the sum of the parts."""
        return sum(self.parts().values())

    def call(self, views: dict[str, tf.Tensor]) -> tf.Tensor:
        """{cross: `[N, cross_width]`, deep: `[N, deep_width]`} -> `[N, cross_width + deep_width]`, stacked `[N, deep_width]`."""
        crossed = views["cross"]
        for cross in self._crosses:
            crossed = cross((views["cross"], crossed))
        deep = views["deep"] if self._is_parallel else crossed
        for layer in self._deep:
            deep = layer(deep)
        return tf.concat([crossed, deep], axis=1) if self._is_parallel else deep
