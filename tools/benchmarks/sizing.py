"""What a year of a large shop's logs would need, extrapolated from what a benchmark measured, with the arithmetic shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipelines.job import PARTITION_ROWS as ROWS_OF_A_PARTITION
from tools.benchmarks.summary import Result

DAYS = 365
IMPRESSIONS_PER_DAY = 1_000_000_000
CORES_OF_A_WORKER = 16
BUSY = 0.7
"""Share of a cluster's core hours that do our work; the rest goes to waiting, uneven partitions and retries."""


@dataclasses.dataclass(frozen=True)
class Load:
    """A log: its days, impressions a day, and events of all kinds per impression."""

    days: int
    impressions_per_day: int
    events_per_impression: float

    @property
    def million_events(self) -> float:
        """All events, in millions."""
        return self.days * self.impressions_per_day * self.events_per_impression / 1e6


@dataclasses.dataclass(frozen=True)
class Sizing:
    """What a load needs: core hours, bytes through the shuffle and side inputs, bytes of records, hash partitions."""

    million_events: float
    core_hours: float
    shuffle_bytes: float
    record_bytes: float
    partitions: float

    def hours(self, workers: int) -> float:
        """Wall hours on so many workers of 16 cores, each 70 % busy."""
        return self.core_hours / (workers * CORES_OF_A_WORKER * BUSY)

    def disk_per_worker(self, workers: int) -> float:
        """Bytes of shuffle that each of so many workers holds, written once."""
        return self.shuffle_bytes / workers


def size(result: Result, load: Load) -> Sizing:
    """Extrapolates a result in proportion to events and lists; start-up is left out."""
    millions = load.million_events
    return Sizing(
        million_events=millions,
        core_hours=millions * cpu_seconds_per_million(result) / 3_600,
        shuffle_bytes=millions * 1e6 * (result.shuffle + result.side),
        record_bytes=millions * 1e6 / result.events * result.lists * result.output,
        partitions=millions * 1e6 / ROWS_OF_A_PARTITION,
    )


def cpu_seconds_per_million(result: Result) -> float:
    """CPU seconds of work per million events: nanoseconds per event / 1,000."""
    return result.cpu_per_event.median / 1_000


def largest(results: Sequence[Result], variant: str) -> Result | None:
    """A variant's result at its largest size."""
    return max((r for r in results if r.variant == variant), key=lambda r: r.events, default=None)


def explain(result: Result, workers: Sequence[int] = (10, 100)) -> list[str]:
    """A year at a billion impressions a day as lines of arithmetic."""
    ratio = result.events / result.impressions
    load = Load(DAYS, IMPRESSIONS_PER_DAY, ratio)
    found, day = size(result, load), size(result, dataclasses.replace(load, days=1))
    cpu, moved = cpu_seconds_per_million(result), result.shuffle + result.side
    per_list = result.events / result.lists
    lines = [
        f"measured: {result.variant}, {result.events:,} events, {cpu:.2f} CPU s and {moved:.1f} MB of shuffle per million events, "
        f"{result.output:,.0f} bytes a list of {per_list:.1f} events, {ratio:.2f} events per impression",
        f"events: {DAYS} days x {IMPRESSIONS_PER_DAY:,} impressions x {ratio:.2f} = {found.million_events:,.0f} million",
        f"CPU: {found.million_events:,.0f} x {cpu:.2f} s / 3,600 = {found.core_hours:,.0f} core hours; a day {day.core_hours:,.1f}",
        f"shuffle: {found.million_events:,.0f} x {moved:.1f} MB = {found.shuffle_bytes / 1e12:,.1f} TB; "
        f"a day {day.shuffle_bytes / 1e9:,.0f} GB",
        f"records: {found.million_events:,.0f} million / {per_list:.1f} x {result.output:,.0f} B = {found.record_bytes / 1e12:,.1f} TB",
        f"partitions of {ROWS_OF_A_PARTITION:,} rows: --partitions={found.partitions:,.0f}; a day {day.partitions:,.0f}",
    ]
    for count in workers:
        lines.append(
            f"{count} workers of {CORES_OF_A_WORKER} cores, {BUSY:.0%} busy: {found.core_hours:,.0f} h / "
            f"({count} x {CORES_OF_A_WORKER} x {BUSY}) = {found.hours(count):,.1f} h, "
            f"{found.disk_per_worker(count) / 1e12:,.2f} TB of shuffle on each"
        )
    return lines
