"""Comparisons that checks share: of answers with each other, and of a refusal with the codes that count."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import numpy as np

from export.conformance.check import FailedError, require
from export.conformance.target import Answer, Target
from export.selfcheck import difference

OK = grpc.StatusCode.OK


def refused(answer: Answer, *codes: grpc.StatusCode) -> str:
    """What the server said. Raises FailedError where it answered, refused with another code or without a message."""
    names = " or ".join(code.name for code in codes)
    require(answer.code != OK, f"answered OK, expected {names}")
    require(answer.code in codes, f"refused with {answer.code.name} ({answer.details[:200]}), expected {names}")
    require(answer.details, f"refused with {answer.code.name} and no message")
    return f"{answer.code.name}: {answer.details.splitlines()[0][:100]}"


def equal(target: Target, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float | None = None) -> str:
    """The largest difference of any output. Raises FailedError naming the output where it is above the tolerance or one is missing."""
    limit = target.tolerance if tolerance is None else tolerance
    require(set(found) == set(expected), f"outputs {sorted(found)}, expected {sorted(expected)}")
    gaps = {name: difference(found[name], expected[name]) for name in expected}
    worst = max(gaps, key=lambda name: gaps[name])
    if gaps[worst] > limit:
        raise FailedError(f"output {worst!r} differs by {gaps[worst]:.2e}, at most {limit:.0e} is allowed")
    return f"largest difference {gaps[worst]:.1e}"


def scores_of(outputs: Mapping[str, np.ndarray], items: int) -> str:
    """That every output has one finite number per item. Raises FailedError naming the one that has not."""
    for name, values in outputs.items():
        require(values.shape == (items,), f"output {name!r} has shape {list(values.shape)}, expected [{items}]")
        require(np.isfinite(values).all(), f"output {name!r} holds {int((~np.isfinite(values)).sum())} numbers that are not finite")
    return f"{len(outputs)} outputs for {items} items, all finite"
