"""What one build is asked to do, and what its feature spec asks of the logs. Both are plain values that travel to Beam workers."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterable
from typing import Literal

from cvr.errors import CvrError
from cvr.records import Layout
from cvr.schema import FeatureSpec, parse_spec

IMPRESSION = "impression"
"""The event name under which aggregates count impressions; engagements may not use it."""


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """A prepared feature table (`pipelines.feature_table`): `path` is its file, `keys` and `columns` are its columns, `lag` is in ms.

    Its `columns` are read as if the impressions had them, point in time; they take the place of columns of the same name.
    """

    path: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    lag: int = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of `pipelines.build_lists`. Times are ms since the epoch, UTC; each split is [its start, the next one's start)."""

    source: str
    input: str
    output: str
    spec_text: str
    spec_name: str = "<spec>"
    start: int | None = None
    validation_from: int | None = None
    test_from: int | None = None
    end: int | None = None
    log_end: int | None = None
    drop_unconverted: str = "train"
    partitions: int = 8
    max_bad_fraction: float = 0.001
    record_format: Literal["lists", "elwc"] = "lists"
    build_id: str = ""
    feature_table: FeatureTable | None = None
    labels_required: bool = True
    """Whether every task needs labels and every split lists; a backfill computes features of a range that may have neither."""

    def __post_init__(self) -> None:
        """Raises CvrError where flags contradict each other."""
        named = ("start", "validation_from", "test_from", "end")
        given = [(name, getattr(self, name)) for name in named if getattr(self, name) is not None]
        for (first, low), (second, high) in zip(given, given[1:], strict=False):
            if low >= high:
                raise CvrError(f"--{first}={format_time(low)} must lie before --{second}={format_time(high)}")
        if self.partitions < 1:
            raise CvrError(f"--partitions={self.partitions}: expected at least 1")
        if not 0 <= self.max_bad_fraction <= 1:
            raise CvrError(
                f"--max_bad_fraction={self.max_bad_fraction}: expected a share between 0 and 1, such as 0.001"
            )

    @property
    def data_folder(self) -> str:
        """The folder of this build's files, relative to the output."""
        return f"data-{self.build_id}"

    def splits(self) -> list[tuple[str, int | None, int | None]]:
        """The splits that were asked for, in time order: (name, first ms or None, first ms after it or None)."""
        starts = [("train", self.start), ("validation", self.validation_from), ("test", self.test_from)]
        asked = [(name, low) for name, low in starts if name == "train" or low is not None]
        ends = [low for _, low in asked[1:]] + [self.end]
        return [(name, low, high) for (name, low), high in zip(asked, ends, strict=True)]


def parse_time(text: str | None, flag: str) -> int | None:
    """`2018-11-08`, `2018-11-08T15:33` or with an offset -> ms since the epoch; without an offset it is UTC. None stays None."""
    if text is None or not str(text).strip():
        return None
    try:
        moment = datetime.datetime.fromisoformat(str(text).strip().replace("Z", "+00:00"))
    except ValueError as error:
        message = f"--{flag}={text}: expected a date or an ISO 8601 time in UTC, such as 2026-01-31 or 2026-01-31T15:30"
        raise CvrError(message) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return round(moment.timestamp() * 1000)


def format_time(milliseconds: int | None) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC; `none` for None."""
    if milliseconds is None:
        return "none"
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds").replace("+00:00", "Z")


@dataclasses.dataclass(frozen=True)
class Component:
    """A count that aggregates are made from: `events` per key of `by` (none: all together) and time bucket of `bucket` ms."""

    by: tuple[str, ...]
    events: tuple[str, ...]
    bucket: int

    @property
    def local(self) -> bool:
        """Whether a customer's hash partition holds all events of a key, so that nothing needs to be exchanged."""
        return "customer" in self.by


class Plan:
    """What a feature spec needs from the logs: columns, event names and aggregate components."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.layout = Layout.of(spec)
        self.tasks = spec.tasks
        self.popularity = Component(("item",), spec.tasks[spec.primary_task].events, 1)
        self.histories = spec.select(kind="sequence", stored=True)
        self.event_names = tuple(sorted(self._events()))

    def _events(self) -> set[str]:
        named = {event for task in self.tasks.values() for event in task.events}
        named |= {event for feature in self.histories if feature.history for event in feature.history.events}
        for feature in self.spec.select(stored=True):
            if feature.aggregate:
                named |= {feature.aggregate.event, feature.aggregate.per or IMPRESSION}
        return named - {IMPRESSION}

    def columns(self, table: str) -> dict[str, set[str]]:
        """Columns that features read from `impression` or `item`, and how: {column: {"n" for numbers, "s" for text}}."""
        found: dict[str, set[str]] = {}
        for feature in self.spec.select(stored=True):
            origin, _, column = (feature.column or "").partition(".")
            if origin == table:
                found.setdefault(column, set()).add("n" if feature.kind == "numerical" else "s")
        return found

    def codes(self, events: Iterable[str]) -> list[int]:
        """Codes of event names: their places in `event_names`, -1 for impressions."""
        return [-1 if event == IMPRESSION else self.event_names.index(event) for event in events]

    @functools.cached_property
    def needs_query(self) -> bool:
        """Whether an aggregate counts by query."""
        return any("query" in component.by for component in self.components)

    @functools.cached_property
    def components(self) -> tuple[Component, ...]:
        """All components, each once; the first is the popularity baseline's. A rate also needs the counts over all keys."""
        found = [self.popularity]
        for feature in self.spec.select(stored=True):
            found += self.components_of(feature.name) if feature.aggregate else []
        return tuple(dict.fromkeys(found))

    def components_of(self, name: str) -> list[Component]:
        """Components of an aggregate feature: [count] or, for a rate, [count, count of `per`, both over all keys]."""
        aggregate = self.spec.features[name].aggregate
        assert aggregate is not None
        events = [(aggregate.event,)] + ([(aggregate.per,)] if aggregate.per else [])
        bys = [aggregate.by] + ([()] if aggregate.per else [])
        return [Component(by, event, aggregate.bucket) for by in bys for event in events]


@functools.lru_cache(maxsize=8)
def plan_of(settings: Settings) -> Plan:
    """The plan of a build, parsed once per process."""
    return Plan(parse_spec(settings.spec_text, settings.spec_name))
