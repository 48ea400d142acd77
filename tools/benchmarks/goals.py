"""The goals of the pipeline, beside what a benchmark reached. A goal whose sizes were not measured is neither met nor missed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from tools.benchmarks.summary import Result

MILLION = 1_000_000
GIB = 2**30

Found = Mapping[tuple[str, int], Result]


@dataclasses.dataclass(frozen=True)
class Goal:
    """What was wanted (`>=` or `<=` a number, in a unit) and what was reached; None where the sizes were not measured."""

    name: str
    relation: str
    wanted: float
    unit: str
    reached: float | None

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where it was not measured."""
        if self.reached is None:
            return None
        return self.reached >= self.wanted if self.relation == ">=" else self.reached <= self.wanted


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def _rate(found: Found, variant: str, events: int, whole: bool = False) -> float | None:
    result = found.get((variant, events))
    return None if result is None else (result.whole_rate if whole else result.rate).median


def _peak(found: Found, variant: str, events: int) -> float | None:
    """The greatest peak of all repeats, in GiB."""
    result = found.get((variant, events))
    return None if result is None else result.peak.most / GIB


def _growth(found: Found, variant: str) -> float | None:
    large, small = found.get((variant, 10 * MILLION)), found.get((variant, MILLION))
    return large.cpu_per_event.median / small.cpu_per_event.median if large and small else None


def _speed_goals(found: Found) -> list[Goal]:
    plain = min((events for variant, events in found if variant == "plain"), default=0)
    full = max((events for variant, events in found if variant == "full"), default=0)
    ten = 10 * MILLION
    ours = [_rate(found, "attribution", ten, whole) for whole in (False, True)]
    duckdb = [_rate(found, "duckdb", ten, whole) for whole in (False, True)]
    plain_ratio = _ratio(_rate(found, "attribution", plain), _rate(found, "plain", plain))
    return [
        Goal(f"rate of the plain design, {size(plain)} events", ">=", 10, "x", plain_ratio),
        Goal("rate of DuckDB, 10M events, start-up taken off both", ">=", 0.6, "x", _ratio(ours[0], duckdb[0])),
        Goal("rate of DuckDB, 10M events, whole processes", ">=", 0.6, "x", _ratio(ours[1], duckdb[1])),
        Goal(f"full job, {size(full)} events", ">=", 300_000, "events/s", _rate(found, "full", full)),
    ]


def goals(results: Iterable[Result]) -> list[Goal]:
    """All goals of the pipeline."""
    found = {(result.variant, result.asked): result for result in results}
    cost = "CPU per event at 10M against 1M, start-up taken off"
    growth = [Goal(f"{cost}, {name}", "<=", 1.15, "x", _growth(found, name)) for name in ("attribution", "full")]
    names: Sequence[str] = ("attribution", "full", "attribution-hot", "full-hot")
    peaks = [Goal(f"peak memory at 10M, {name}", "<=", 1.5, "GiB", _peak(found, name, 10 * MILLION)) for name in names]
    return [*_speed_goals(found), *growth, *peaks]


def size(events: int) -> str:
    """A number of events in millions: 300000 -> 0.3M."""
    return f"{events / MILLION:g}M"
