"""The results as a table and as JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from export.conformance.check import Result


def _counts(results: Sequence[Result]) -> dict[str, int]:
    found = Counter(result.verdict for result in results)
    return {"pass": found["pass"], "fail": found["fail"], "skip": found["skip"]}


def table(results: Sequence[Result]) -> str:
    """A line per check with what was seen; under a failed one what was expected; the counts at the end."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        lines.append(f"{result.verdict}  {result.name:<{width}}  {result.seen}")
        if result.verdict == "fail":
            lines.append(f"      {'':<{width}}  expected: {result.expects}")
    counts = _counts(results)
    seconds = sum(result.seconds for result in results)
    return "\n".join([*lines, f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped in {seconds:.1f} s"])


def content(target: str, model_name: str, results: Sequence[Result]) -> dict[str, Any]:
    """The JSON report."""
    passed = all(result.verdict != "fail" for result in results)
    checks = [dataclasses.asdict(result) for result in results]
    return {"target": target, "model_name": model_name, "passed": passed, "counts": _counts(results), "checks": checks}
