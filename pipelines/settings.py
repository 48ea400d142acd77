"""What one build is asked to do, and what its feature spec asks of the logs. Both are plain values that travel to Beam workers."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterable
from typing import Literal

from cvr.errors import CvrError
from cvr.records import Layout
from cvr.schema import Aggregate, Feature, FeatureSpec, parse_spec
from pipelines.es3.options import NOTHING, EntireSpace

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
IMPRESSION = "impression"
"""The event name under which aggregates count impressions; engagements may not use it."""
REQUEST_COLUMNS = frozenset({"search_id", "time", "customer_id", "query", "domain"})
"""Columns of impressions that are the same in all rows of a request."""


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
    partitions: int = 0
    max_bad_fraction: float = 0.001
    record_format: Literal["lists", "elwc"] = "lists"
    sampling_rate: float = 1.0
    sampling_seed: int = 0
    popularity_bucket: int | None = DAY_MS
    split_rows: int = 250_000
    spill: bool | None = None
    """Whether what is shuffled goes through files in the output; None: where the output is local and so is the runner."""
    es3: EntireSpace = NOTHING
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
        if self.partitions < 0:
            raise CvrError(f"--partitions={self.partitions}: expected at least 1, or 0 to have them counted")
        if not 0 < self.sampling_rate <= 1:
            raise CvrError(f"--sampling_rate={self.sampling_rate}: expected a share of the training lists in (0, 1], such as 0.1")
        if self.split_rows < 1:
            raise CvrError(f"--split_rows={self.split_rows}: expected at least 1")
        if not 0 <= self.max_bad_fraction <= 1:
            raise CvrError(
                f"--max_bad_fraction={self.max_bad_fraction}: expected a share between 0 and 1, such as 0.001"
            )

    @property
    def data_folder(self) -> str:
        """The folder of this build's files, relative to the output."""
        return f"data-{self.build_id}"

    @property
    def key_partitions(self) -> int:
        """Partitions of keys, where counts and items are looked up; fewer than those of customers, since their rows are small."""
        return max(1, -(-self.partitions // 2))

    @property
    def spill_folder(self) -> str | None:
        """Where shuffled pieces are written; None where they go through Beam."""
        return f"{self.output}/{self.data_folder}/spill" if self.spill else None

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


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked about a key of `by` at the time t of a list: counts up to bucket (t - lag) // bucket.

    `counts` are (events, buckets back or None for all). Questions with the same key, grain and lag are asked together.
    """

    by: tuple[str, ...]
    bucket: int
    lag: int
    counts: tuple[tuple[tuple[str, ...], int | None], ...]

    @property
    def local(self) -> bool:
        """Whether a customer's hash partition holds all events of a key, so that nothing needs to be exchanged."""
        return "customer" in self.by

    @property
    def per_item(self) -> bool:
        """Whether the key differs between the items of a list."""
        return "item" in self.by


Place = tuple[int, int]
"""Where a count is among the answers: (question, its place in `counts`)."""


class Plan:
    """What a feature spec needs from the logs: columns, event names, and the counts that aggregates ask for."""

    def __init__(self, spec: FeatureSpec, popularity_bucket: int | None = DAY_MS, es3: EntireSpace = NOTHING) -> None:
        self.spec = spec
        self.es3 = es3
        self.layout = Layout.of(spec)
        self.tasks = spec.tasks
        self.histories = spec.select(kind="sequence", stored=True)
        self.event_names = tuple(sorted(self._events()))
        self._popularity_bucket = popularity_bucket

    def _events(self) -> set[str]:
        named = {event for task in self.tasks.values() for event in task.events}
        named |= {event for feature in self.histories if feature.history for event in feature.history.events}
        for feature in self._aggregates():
            assert feature.aggregate is not None
            named |= {feature.aggregate.event, feature.aggregate.per or IMPRESSION}
        return named - {IMPRESSION}

    def _aggregates(self) -> list[Feature]:
        return [feature for feature in self.spec.select(stored=True) if feature.aggregate]

    def columns(self, table: str) -> dict[str, set[str]]:
        """Columns that features read from `impression` or `item`, and as what: "n" numbers, "c" ids of whole values, "s" texts."""
        found: dict[str, set[str]] = {}
        for feature in self.spec.select(stored=True):
            origin, _, column = (feature.column or "").partition(".")
            if origin == table:
                kind = "n" if feature.kind == "numerical" else "s" if feature.ragged else "c"
                found.setdefault(column, set()).add(kind)
        for column in self._searchified.get(table, ()):
            found.setdefault(column, set()).add("s")
        return found

    @property
    def _searchified(self) -> dict[str, tuple[str, ...]]:
        """Text columns that lists of other domains need beside those of features."""
        if not self.es3.searchify:
            return {}
        return {"impression": ("query",), "item": (self.es3.item_title, self.es3.similarity_column)}

    @functools.cached_property
    def candidate_columns(self) -> dict[str, set[str]]:
        """Columns that un-exposed candidates bring along, as `columns`: those of features of items that are not of the request."""
        read = [feature.column or "" for feature in self.spec.select(level="item", stored=True)]
        names = {name for origin, _, name in (column.partition(".") for column in read) if origin == "impression"}
        return {name: kinds for name, kinds in self.columns("impression").items() if name in names - REQUEST_COLUMNS}

    def codes(self, events: Iterable[str]) -> list[int]:
        """Codes of event names: their places in `event_names`, -1 for impressions."""
        return [-1 if event == IMPRESSION else self.event_names.index(event) for event in events]

    @functools.cached_property
    def window(self) -> int:
        """The longest attribution window of all tasks, ms."""
        return max(task.window for task in self.tasks.values())

    @functools.cached_property
    def needs_query(self) -> bool:
        """Whether an aggregate counts by query, or queries are made for lists of other domains."""
        return bool(self.es3.searchify) or any("query" in question.by for question in self.questions)

    @functools.cached_property
    def needs_items(self) -> bool:
        """Whether features read attributes of items."""
        return bool(self.columns("item"))

    @functools.cached_property
    def exchanges(self) -> bool:
        """Whether partitions need counts of each other, or attributes of items."""
        return bool(self.questions) or self.needs_items

    def _asked(self) -> list[tuple[str, tuple[str, ...], Aggregate, tuple[str, ...]]]:
        """(feature, key, aggregate, events) of every count that a feature needs, in the order of `places`; "" is the popularity."""
        found: list[tuple[str, tuple[str, ...], Aggregate, tuple[str, ...]]] = []
        for feature in self._aggregates():
            aggregate = feature.aggregate
            assert aggregate is not None
            events = [(aggregate.event,)] + ([(aggregate.per,)] if aggregate.per else [])
            bys: list[tuple[str, ...]] = [aggregate.by, ()] if aggregate.per else [aggregate.by]
            found += [(feature.name, by, aggregate, event) for by in bys for event in events]
        if self._popularity_bucket is not None:
            primary = self.tasks[self.spec.primary_task].events
            grain = Aggregate.model_validate({"by": ("item",), "event": primary[0], "bucket": f"{self._popularity_bucket}ms"})
            found.append(("", ("item",), grain, primary))
        return found

    @functools.cached_property
    def _layout_of_questions(self) -> tuple[tuple[Question, ...], dict[str, list[Place]]]:
        counts: dict[tuple[tuple[str, ...], int, int], list[tuple[tuple[str, ...], int | None]]] = {}
        places: dict[str, list[tuple[tuple[tuple[str, ...], int, int], int]]] = {}
        for name, by, aggregate, events in self._asked():
            key = (by, aggregate.bucket, aggregate.lag)
            back = None if aggregate.window == "all" else -(-int(aggregate.window) // aggregate.bucket)
            known = counts.setdefault(key, [])
            if (events, back) not in known:
                known.append((events, back))
            places.setdefault(name, []).append((key, known.index((events, back))))
        order = {key: index for index, key in enumerate(counts)}
        questions = tuple(Question(*key, tuple(asked)) for key, asked in counts.items())
        return questions, {name: [(order[key], place) for key, place in found] for name, found in places.items()}

    @property
    def questions(self) -> tuple[Question, ...]:
        """All questions of the spec's aggregates and of the popularity baseline."""
        return self._layout_of_questions[0]

    def places(self, feature: str) -> list[Place]:
        """Where a feature's counts are: [count] or, for a rate, [count, count of `per`, both over all keys]."""
        return self._layout_of_questions[1][feature]

    @property
    def popularity(self) -> Place | None:
        """Where the popularity baseline's count is; None where it was not asked for."""
        return self._layout_of_questions[1].get("", [None])[0]

    @functools.cached_property
    def components(self) -> tuple[Component, ...]:
        """All counts that the questions need, each once."""
        asked = [Component(q.by, events, q.bucket) for q in self.questions for events, _ in q.counts]
        return tuple(dict.fromkeys(asked))


@functools.lru_cache(maxsize=8)
def plan_of(settings: Settings) -> Plan:
    """The plan of a build, parsed once per process."""
    return Plan(parse_spec(settings.spec_text, settings.spec_name), settings.popularity_bucket, settings.es3)
