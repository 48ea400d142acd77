"""The scaling factors of stacked unified attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cvr.layers.heads import check_heads

RESIDUALS, GATES = ("code", "clean"), ("sample", "position")


@dataclasses.dataclass(frozen=True)
class UnifiedFactors:
    """Number of `layers` (the grade), `width` D, number of `heads`, inner width `hidden` x D; `residual` and `gate` as in
    `UnifiedAttention`; `time_buckets` of the bias; `window` and `dilation` of a history's attention (`cvr.layers.sparse_pattern`; 0, 0:
    all older events); `tile`: candidates of a list that are brought together with its history at a time.

    Raises ValueError for values that do not fit together.
    """

    layers: int = 2
    width: int = 32
    heads: int = 2
    hidden: int = 3
    residual: str = "code"
    gate: str = "position"
    time_buckets: int = 128
    window: int = 0
    dilation: int = 0
    tile: int = 8

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.hidden, self.time_buckets, self.tile) < 1:
            raise ValueError("layers, width, hidden, time_buckets and tile are at least 1")
        if min(self.window, self.dilation) < 0:
            raise ValueError("window and dilation are at least 0")
        check_heads(self.width, self.heads)
        for name, known in (("residual", RESIDUALS), ("gate", GATES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")

    @classmethod
    def of(cls, values: UnifiedFactors | Mapping[str, Any]) -> UnifiedFactors:
        """Factors, or their `as_dict`."""
        return values if isinstance(values, UnifiedFactors) else cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a Keras configuration."""
        return dataclasses.asdict(self)
