"""From the runs of a benchmark to figures per variant and size: medians with the least and the greatest of the repeats.

Start-up is what an almost empty build of the same command takes: its imports, and what comes before the first event. A run's work is its
time after the imports, less the median of the almost empty builds' time after theirs.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from tools.benchmarks.measure import Run
from tools.benchmarks.variants import VARIANTS, Cell


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median, least and greatest of the repeats."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value per repeat."""
        return cls(statistics.median(values), min(values), max(values))


@dataclasses.dataclass(frozen=True)
class Startup:
    """Medians of an almost empty build: seconds of the whole process, and of its part after the imports."""

    wall: float
    cpu: float
    main_wall: float
    main_cpu: float
    peak: float


@dataclasses.dataclass(frozen=True)
class Result:
    """One variant at one size.

    `rate`: events a second of work, start-up taken off; `whole_rate`: of the whole process. `cpu`: seconds of the whole process;
    `cpu_per_event`: nanoseconds of work. `peak`: bytes. `shuffle`, `side`: bytes per event between Beam's steps. `output`: bytes per list.
    `unclear`: a repeat took less than the start-up, so the log is too small for a figure; a hundredth of its time stands for its work.
    """

    variant: str
    asked: int
    events: int
    impressions: int
    lists: int
    repeats: int
    rate: Spread
    whole_rate: Spread
    cpu: Spread
    cpu_per_event: Spread
    peak: Spread
    shuffle: float
    side: float
    output: float
    unclear: bool


def startup_of(runs: Sequence[Run]) -> Startup:
    """The start-up of a command, from its almost empty builds."""
    names = [field.name for field in dataclasses.fields(Startup)]
    return Startup(**{name: statistics.median(getattr(run, name) for run in runs) for name in names})


def result_of(
    cell: Cell, counts: Mapping[str, int], runs: Sequence[Run], output: int, startups: Mapping[str, Startup]
) -> Result:
    """The figures of one cell; `counts` are those of its log, `output` the bytes that it wrote."""
    events = counts["impressions"] + counts["engagements"]
    startup = startups[VARIANTS[cell.variant].base]
    walls = [max(run.main_wall - startup.main_wall, run.main_wall / 100) for run in runs]
    work = [max(run.main_cpu - startup.main_cpu, run.main_cpu / 100) for run in runs]
    return Result(
        variant=cell.variant,
        asked=cell.events,
        events=events,
        impressions=counts["impressions"],
        lists=counts["searches"],
        repeats=len(runs),
        rate=Spread.of([events / wall for wall in walls]),
        whole_rate=Spread.of([events / run.wall for run in runs]),
        cpu=Spread.of([run.cpu for run in runs]),
        cpu_per_event=Spread.of([seconds / events * 1e9 for seconds in work]),
        peak=Spread.of([run.peak for run in runs]),
        shuffle=statistics.median(run.shuffle for run in runs) / events,
        side=statistics.median(run.side for run in runs) / events,
        output=output / counts["searches"],
        unclear=any(run.main_wall <= startup.main_wall or run.main_cpu <= startup.main_cpu for run in runs),
    )
