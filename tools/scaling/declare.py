"""What a scaling study is: arms, the axes they lie on, claims about them, and what the paper published."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from cvr.errors import CvrError

Edits = tuple[tuple[str, Any], ...]
"""Changes of a feature spec: (path with dots, new value); None removes the key."""

HIGHER, LOWER, EQUIVALENT, REPORTED = "higher", "lower", "equivalent", ""


@dataclasses.dataclass(frozen=True)
class Period:
    """The days of a log: training from `first`, then validation, then test until `end`."""

    first: datetime.datetime
    validation_from: datetime.datetime
    test_from: datetime.datetime
    end: datetime.datetime

    def start(self, share: float) -> datetime.datetime:
        """Where the most recent `share` of the training days begins: longer ones add older days, the test days stay the same."""
        return self.validation_from - share * (self.validation_from - self.first)

    def days(self, share: float) -> float:
        """Training days in that share."""
        return share * (self.validation_from - self.first).total_seconds() / 86_400


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a study is declared from: whether it is a quick one, and the log's days where it builds lists from a log."""

    quick: bool
    period: Period | None

    def of(self, levels: tuple[Any, ...]) -> tuple[Any, ...]:
        """All levels of an axis; of a quick study the first and the last."""
        return (levels[0], levels[-1]) if self.quick else levels

    def need_period(self, study: str) -> Period:
        """The log's days. Raises CvrError where finished lists were given instead of a log."""
        if self.period is None:
            raise CvrError(f"--study={study} builds lists of its own; give a log (--logs, --source, ..) or nothing, not --lists")
        return self.period


@dataclasses.dataclass(frozen=True)
class Lists:
    """Search lists that a study needs: the most recent `share` of the training days, built with an edited spec."""

    name: str = "all"
    share: float = 1.0
    edits: Edits = ()


@dataclasses.dataclass(frozen=True)
class Arm:
    """A configuration: flags of cvr.train, the lists, changes of the spec that need no other lists. `family` shares what was tuned."""

    name: str
    family: str
    flags: tuple[tuple[str, str], ...]
    lists: Lists = Lists()
    edits: Edits = ()


@dataclasses.dataclass(frozen=True)
class Axis:
    """A varied factor: (level, name of its arm), ascending; `base` is the base configuration's level, `paper` what was published."""

    name: str
    levels: tuple[tuple[float, str], ...]
    base: float
    paper: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A sum of arms' mAP with coefficients, (arm, coefficient), and what the paper says of it.

    `claim` is that it is above 0 (HIGHER), below 0 (LOWER), or within the margin (EQUIVALENT); REPORTED claims nothing. P-values are
    corrected among the contrasts of one `table`.
    """

    name: str
    terms: tuple[tuple[str, float], ...]
    claim: str = REPORTED
    requirement: str = ""
    paper: str = ""
    table: str = "claims"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A requirement of PAPERS.md, its status word, and what it rests on."""

    requirement: str
    word: str
    why: str


@dataclasses.dataclass(frozen=True)
class Study:
    """All that is run. `families` names the arm that each family is tuned with, `raised` the factors of a factorial's arms
    (`data+backbone`), `paper` the published figure beside an arm."""

    name: str
    title: str
    reference: str
    arms: tuple[Arm, ...]
    axes: tuple[Axis, ...]
    families: Mapping[str, str]
    raised: Mapping[str, str] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def arm(self, name: str) -> Arm:
        """An arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def lists(self) -> tuple[Lists, ...]:
        """All lists that the arms need, once each."""
        return tuple(dict.fromkeys(arm.lists for arm in self.arms))


def change(first: str, second: str) -> tuple[tuple[str, float], ...]:
    """The terms of `second` less `first`."""
    return ((first, -1.0), (second, 1.0))
