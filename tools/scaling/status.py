"""Claims held against what was found, and the status word of each requirement."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tools.comparison.statistics import Resampling
from tools.comparison.table import Row, correct
from tools.scaling.declare import REPORTED, Contrast, Finding
from tools.scaling.results import Results

EXACT, DIRECTION, NOT = "exact", "reproduced direction", "not reproduced"
MECHANISM, UNTESTABLE = "mechanism only", "not testable here"
WORDS = (EXACT, DIRECTION, NOT, MECHANISM, UNTESTABLE)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A contrast with what was found of it; p-values are corrected within its table."""

    contrast: Contrast
    row: Row

    @property
    def holds(self) -> bool:
        """Whether the claim is shown: higher or lower at 5 %, or within the margin at 5 %. Undecided is not shown."""
        claim = self.contrast.claim
        return claim != REPORTED and claim in self.row.verdict.split(", ")

    @property
    def text(self) -> str:
        """One line of evidence."""
        found, (low, high) = self.row.found, self.row.found.interval
        claim = f"; the paper: {self.contrast.claim}" if self.contrast.claim else ""
        numbers = f"{found.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        return f"{self.contrast.name} {numbers}, {self.row.verdict} (detectable {found.mde:.4f}){claim}"

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**dataclasses.asdict(self.contrast), "holds": self.holds, "found": self.row.as_json()}


def judge(contrasts: Sequence[Contrast], results: Results, how: Resampling) -> list[Judged]:
    """Every contrast; Holm's correction within each table."""
    judged = []
    for table in dict.fromkeys(contrast.table for contrast in contrasts):
        own = [contrast for contrast in contrasts if contrast.table == table]
        rows = [Row(results.task, "map", "", "", "0", one.name, results.linear(one.terms, how)) for one in own]
        judged += [Judged(contrast, row) for contrast, row in zip(own, correct(rows, "holm"), strict=True)]
    return judged


def findings(judged: Sequence[Judged]) -> list[Finding]:
    """A status word per requirement with claims: the direction is reproduced where every claim of it is shown, and only there."""
    found = []
    for requirement in dict.fromkeys(one.contrast.requirement for one in judged if one.contrast.requirement and one.contrast.claim):
        own = [one for one in judged if one.contrast.requirement == requirement and one.contrast.claim]
        word = DIRECTION if all(one.holds for one in own) else NOT
        found.append(Finding(requirement, word, ". ".join(one.text for one in own)))
    return found

