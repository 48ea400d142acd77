"""What a scaling study is: arms, the axes they lie on, claims about them, and what the paper published."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

from cvr.errors import CvrError

Edits = tuple[tuple[str, Any], ...]
"""Changes of a feature spec: (path with dots, new value); None removes the key."""

HIGHER, LOWER, EQUIVALENT, REPORTED = "higher", "lower", "equivalent", ""

TRAIN = "cvr.train"
_RUN = re.compile(r"\{run:([^{}]+)\}")


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
    """Search lists that a study needs: the most recent `share` of the training days, built with an edited spec and with further `flags`."""

    name: str = "all"
    share: float = 1.0
    edits: Edits = ()
    flags: tuple[tuple[str, str], ...] = ()


def runs_in(value: str) -> list[str]:
    """Arms whose runs a flag's value names, as `{run:<arm>}`."""
    return _RUN.findall(value)


@dataclasses.dataclass(frozen=True)
class Arm:
    """A configuration: flags of `program`, the lists, changes of the spec that need no other lists. `family` shares what was tuned.

    `{run:<arm>}` in a flag's value stands for the folder of that arm's run of the same seed, which is then made before. A `program` other
    than cvr.train takes --lists, --output, --seed, --threads and --spec and leaves a `run.json` with `seconds_train` there. It gets
    neither the study's flagfile nor the splits, and it has no evaluation, so no claim can be about it. Such an arm belongs to no
    family (the empty name): nothing is tuned for it.
    """

    name: str
    family: str
    flags: tuple[tuple[str, str], ...]
    lists: Lists = Lists()
    edits: Edits = ()
    program: str = TRAIN

    @property
    def is_evaluated(self) -> bool:
        """Whether it makes a model that ranks."""
        return self.program == TRAIN

    @property
    def needs(self) -> tuple[str, ...]:
        """Arms whose runs its flags name, once each."""
        return tuple(dict.fromkeys(name for _, value in self.flags for name in runs_in(value)))

    def flags_with(self, folder: Callable[[str], object]) -> tuple[tuple[str, str], ...]:
        """The flags, `folder` of an arm in the place of `{run:<arm>}`."""
        return tuple((name, _RUN.sub(lambda found: str(folder(found[1])), value)) for name, value in self.flags)


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

    def __post_init__(self) -> None:
        arms = {arm.name: arm for arm in self.arms}
        for arm in self.arms:
            lost = [name for name in arm.needs if name not in arms]
            if lost:
                raise ValueError(f"study {self.name}: arm {arm.name!r} needs the run of {lost[0]!r}, which is no arm of it")
            if arm.is_evaluated != bool(arm.family):
                raise ValueError(f"study {self.name}: arm {arm.name!r} of {arm.program} {'has no' if arm.is_evaluated else 'has a'} family")
        for arm in self.arms:
            self.before(arm.name)
        for family, name in self.families.items():
            if name in arms and arms[name].needs:
                raise ValueError(f"study {self.name}: family {family!r} is tuned with {name!r}, which needs another run")

    def arm(self, name: str) -> Arm:
        """An arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def evaluated(self) -> tuple[Arm, ...]:
        """Those that make a model that ranks, about which claims can be."""
        return tuple(arm for arm in self.arms if arm.is_evaluated)

    def before(self, name: str) -> tuple[str, ...]:
        """Arms whose runs must be there before that of an arm, each behind those that it needs. Raises ValueError for a circle."""
        found: dict[str, None] = {}

        def visit(one: str, path: tuple[str, ...]) -> None:
            if one in path:
                raise ValueError(f"study {self.name}: arms need each other: {', '.join((*path, one))}")
            for need in self.arm(one).needs:
                visit(need, (*path, one))
                found[need] = None

        visit(name, ())
        return tuple(found)

    @property
    def lists(self) -> tuple[Lists, ...]:
        """All lists that the arms need, once each."""
        return tuple(dict.fromkeys(arm.lists for arm in self.arms))


def change(first: str, second: str) -> tuple[tuple[str, float], ...]:
    """The terms of `second` less `first`."""
    return ((first, -1.0), (second, 1.0))
