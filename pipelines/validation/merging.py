"""Partial figures of record files: nested dicts of numbers, arrays and small objects that merge in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

Partial = dict[Any, Any]

MAX_EXAMPLES = 5
"""How many examples of a violation are kept, the first in the order of their texts."""


@dataclasses.dataclass(frozen=True)
class Found:
    """How often something was found, and up to `MAX_EXAMPLES` descriptions of where."""

    count: int = 0
    examples: tuple[str, ...] = ()

    def merge(self, other: Found) -> Found:
        """Both together."""
        return Found(self.count + other.count, tuple(sorted({*self.examples, *other.examples})[:MAX_EXAMPLES]))


@dataclasses.dataclass(frozen=True)
class Range:
    """The least and the greatest of some numbers."""

    low: int
    high: int

    def merge(self, other: Range) -> Range:
        """Of both together."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def merge(left: Any, right: Any) -> Any:
    """Both partials together: dicts key by key, objects by their `merge`, numbers and arrays by their sum."""
    if isinstance(left, dict):
        return left | {key: merge(left[key], value) if key in left else value for key, value in right.items()}
    return left.merge(right) if hasattr(left, "merge") else left + right


def merge_all(partials: Iterable[Partial]) -> Partial:
    """All partials together; {} without any. Usable as a Beam combiner."""
    total: Partial = {}
    for partial in partials:
        total = merge(total, partial)
    return total


@dataclasses.dataclass(frozen=True)
class Box:
    """A partial as one object, which Beam's coders pickle at once; of a bare dict they would pickle every value by itself."""

    partial: Partial


def merge_boxes(boxes: Iterable[Box]) -> Box:
    """All partials together. Usable as a Beam combiner."""
    return Box(merge_all(box.partial for box in boxes))
