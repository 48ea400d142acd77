"""What a validation finds: partial figures by split and day, thresholds, and checks with their status."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

from cvr.manifest import Manifest
from cvr.schema import FeatureSpec
from pipelines.validation.merging import Found, Partial, merge, merge_all

Status = Literal["pass", "warn", "fail", "skip"]
"""`skip` says that something could not be judged, and why."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The flags of `pipelines.validate` by which checks are judged; see its --help."""

    leak_auc: float = 0.95
    leak_jump: float = 0.1
    drift: float = 0.05
    coverage_drop: float = 0.1
    change: float = 0.5
    min_lists: int = 200


@dataclasses.dataclass(frozen=True)
class Check:
    """One check: what was asked (`name`), its status, what was found, and examples of it."""

    area: str
    name: str
    status: Status
    finding: str
    examples: tuple[str, ...] = ()


def judged(area: str, name: str, bad: Sequence[str], good: str, worst: Status = "fail", say: str = "") -> Check:
    """A check that passes with `good` where nothing bad was found, else has the status `worst`, `say` and the first bad things."""
    if not bad:
        return Check(area, name, "pass", good)
    return Check(area, name, worst, say or f"{len(bad):,} found", tuple(bad[:10]))


class Figures:
    """The merged partials of one published folder."""

    def __init__(
        self, folder: str, manifest: Manifest, spec: FeatureSpec, partials: dict[tuple[str, str, int], Partial]
    ) -> None:
        """`partials` are by (split, day, half of the partitions)."""
        self.folder, self.manifest, self.spec = folder, manifest, spec
        self._partials = partials

    @functools.cached_property
    def splits(self) -> tuple[str, ...]:
        """Splits of which at least one list could be read, in the manifest's order."""
        return tuple(name for name in self.manifest.splits if self.read_days(name))

    @functools.cached_property
    def _days(self) -> dict[str, dict[str, Partial]]:
        found: dict[str, dict[str, Partial]] = {}
        for split, day, half in sorted(self._partials):
            days = found.setdefault(split, {})
            days[day] = merge(days.get(day, {}), self._partials[split, day, half])
        return found

    def read_days(self, split: str) -> dict[str, Partial]:
        """Partials of the days of a split of which lists could be read, in order."""
        return {day: partial for day, partial in self._days.get(split, {}).items() if "lists" in partial}

    @functools.cached_property
    def _wholes(self) -> dict[str, Partial]:
        return {split: merge_all(days.values()) for split, days in self._days.items()}

    def whole(self, split: str) -> Partial:
        """All days of a split together."""
        return self._wholes[split]

    def halves(self, split: str, day: str | None = None) -> list[Partial]:
        """The two halves of a split or of its day: the partitions of even and of odd numbers; fewer where one holds nothing."""
        found = [
            merge_all(
                partial
                for key, partial in sorted(self._partials.items())
                if key[0] == split and key[2] == half and day in (None, key[1])
            )
            for half in (0, 1)
        ]
        return [partial for partial in found if "lists" in partial]

    @property
    def unread(self) -> int:
        """Files that could not be used."""
        return sum(partial.get("unread", 0) for partial in self._partials.values())

    def violations(self) -> dict[str, Found]:
        """All that was found wrong in files."""
        return merge_all(partial.get("violations", {}) for partial in self._partials.values())
