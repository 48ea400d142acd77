"""A check and its outcome, and running many of them within a time limit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Literal

from cvr.errors import CvrError
from export.conformance.target import Target

Verdict = Literal["pass", "fail", "skip"]


class FailedError(CvrError):
    """The server did something else than the check expects."""


class SkippedError(CvrError):
    """The check cannot be made on this server or with these flags; the message says why."""


@dataclasses.dataclass(frozen=True)
class Check:
    """`run` returns what was seen, or raises FailedError or SkippedError. `expects` says what must happen and which status codes count."""

    name: str
    expects: str
    run: Callable[[Target], str]


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a check; `seen` is what the server did, or why the check was skipped."""

    name: str
    expects: str
    verdict: Verdict
    seen: str
    seconds: float


def run_all(checks: Sequence[Check], target: Target, max_seconds: float) -> list[Result]:
    """All checks in order; those that `max_seconds` leaves no time for fail."""
    until = time.monotonic() + max_seconds
    results = []
    for check in checks:
        if time.monotonic() >= until:
            seen = f"not run: the {max_seconds:g} s of --max_seconds were over"
            results.append(Result(check.name, check.expects, "fail", seen, 0.0))
        else:
            results.append(_run(check, target))
    return results


def _run(check: Check, target: Target) -> Result:
    verdict: Verdict = "pass"
    started = time.monotonic()
    try:
        seen = check.run(target)
    except SkippedError as skipped:
        verdict, seen = "skip", str(skipped)
    except CvrError as failed:
        verdict, seen = "fail", str(failed)
    except (LookupError, ValueError, TypeError, AttributeError) as broken:
        verdict, seen = "fail", f"an answer does not have the form that the check reads: {type(broken).__name__}: {broken}"
    return Result(check.name, check.expects, verdict, seen, time.monotonic() - started)


def require(condition: object, message: str) -> None:
    """Raises FailedError with the message where the condition does not hold."""
    if not condition:
        raise FailedError(message)
