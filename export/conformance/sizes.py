"""Checks of large requests and of many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np

from export.conformance.check import Check, SkippedError, require
from export.conformance.compare import equal, refused, scores_of
from export.conformance.target import Arrays, Target
from export.signatures import SCORE

AT_A_TIME = 64
MOST_ITEMS = 5_000
"""A model that takes more is asked for this many: features across a list cost time and memory with the square of its length."""


def _limit(target: Target) -> int:
    if target.limits is None:
        raise SkippedError("the model has no signature limits, which says how many items it takes")
    return target.limits[0]


def _largest(target: Target) -> str:
    count = min(_limit(target), MOST_ITEMS)
    arrays = target.example(count, seed=5)
    outputs = target.predict(arrays)
    seen = scores_of(outputs, count)
    order = np.random.default_rng(5).permutation(count)
    moved = target.predict({**arrays, **{name: arrays[name][order] for name in target.item_inputs()}})
    return f"{seen}; other order: {equal(target, moved, {name: values[order] for name, values in outputs.items()})}"


def _too_large(target: Target) -> str:
    limit = _limit(target)
    if limit > MOST_ITEMS:
        raise SkippedError(f"the model takes {limit} items; more than {MOST_ITEMS} are not sent")
    return refused(target.ask("Predict", target.request(target.example(limit + 1))), grpc.StatusCode.INVALID_ARGUMENT)


def _concurrent(target: Target) -> str:
    sizes = 1 + np.random.default_rng(6).integers(0, 30, AT_A_TIME)
    requests = [target.example(int(size), seed=100 + row) for row, size in enumerate(sizes)]
    alone = [target.predict(arrays) for arrays in requests]
    together = target.predict_at_once(requests)
    found, expected = _joined(together), _joined(alone)
    require(np.ptp(expected[SCORE]) > 0, "all made-up searches have one score")
    return f"{AT_A_TIME} requests, {int(sizes.sum())} items: {equal(target, found, expected)}"


def _joined(answers: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([outputs[name] for outputs in answers]) for name in answers[0]}


def _again(target: Target) -> str:
    arrays = target.example(9, seed=7)
    return equal(target, target.predict(arrays), target.predict(arrays))


CHECKS = (
    Check("repeated", "the same request gets the same scores", _again),
    Check("concurrent", f"{AT_A_TIME} requests at a time = one at a time", _concurrent),
    Check("items_most", "as many items as the model takes, also in another order", _largest),
    Check("items_too_many", "INVALID_ARGUMENT for one item more", _too_large),
)
