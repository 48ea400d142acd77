"""Search lists as readable values: words where there is no value, names or hexadecimal digits for hashed ids."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cvr.records import Histories, Layout, ListColumns
from cvr.schema import Feature, FeatureSpec
from cvr.stored import Part
from cvr.transforms import EMPTY, FIRST_ID, PAD, UNKNOWN, UNSEEN, hash_strings

WORDS = {PAD: "padding", UNSEEN: "unseen", EMPTY: "empty", UNKNOWN: "unknown"}


@dataclasses.dataclass
class Names:
    """What hashes stand for: items by id, values by feature and id, whole texts by feature and their n-grams' ids."""

    items: dict[int, str] = dataclasses.field(default_factory=dict)
    values: dict[str, dict[int, str]] = dataclasses.field(default_factory=dict)
    texts: dict[str, dict[tuple[int, ...], str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Event:
    """One event of a history; `age` in seconds."""

    item: str
    action: str
    age: float


@dataclasses.dataclass(frozen=True)
class Item:
    """One shown item: labels by task, delays in ms by task with an engagement, values by feature."""

    position: int
    item: str
    labels: dict[str, int]
    delays: dict[str, int]
    popularity: float
    features: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Shown:
    """One list: where it is stored, what is known of it once, and its items."""

    search_id: str
    time: str
    split: str
    number: int
    file: str
    day: str
    record: int
    context: dict[str, Any]
    items: list[Item]


class Reader:
    """Turns columns into readable values.

    Args:
      spec: the lists' feature spec.
      features: the features to show.
      names: names of hashed ids.
      digits: hexadecimal digits of an id without a name; 16 are all.
    """

    def __init__(self, spec: FeatureSpec, features: Sequence[Feature], names: Names, digits: int) -> None:
        self._layout, self._features, self._names, self._digits = Layout.of(spec), features, names, digits
        listed = {f.name: hash_strings(list(f.vocabulary)).numpy().tolist() for f in features if f.vocabulary}
        self._listed = {f.name: dict(zip(listed[f.name], f.vocabulary, strict=True)) for f in features if f.vocabulary}

    def lists(self, part: Part, split: str) -> Iterator[Shown]:
        """The lists of one file."""
        columns, ends = part.columns, np.cumsum(part.columns.lengths)
        values = {f.name: self._column(f, columns) for f in self._features}
        for row, (end, length) in enumerate(zip(ends, columns.lengths, strict=True)):
            search = columns.search_id[row]
            yield Shown(
                search_id=search.decode(errors="replace") if isinstance(search, bytes) else search,
                time=_utc(int(columns.time[row])),
                split=split,
                number=int(part.numbers[row]),
                file=part.file.path,
                day=part.file.day,
                record=int(part.rows[row]),
                context={f.name: values[f.name][row] for f in self._features if f.level == "context"},
                items=[self._item(columns, values, place) for place in range(end - length, end)],
            )

    def _item(self, columns: ListColumns, values: dict[str, list[Any]], place: int) -> Item:
        labels, delays = columns.labels[place].tolist(), columns.delay[place].tolist()
        return Item(
            position=int(columns.position[place]),
            item=self._names.items.get(int(columns.item[place])) or self._hex(int(columns.item[place])),
            labels=dict(zip(self._layout.tasks, labels, strict=True)),
            delays={task: delay for task, delay in zip(self._layout.tasks, delays, strict=True) if delay >= 0},
            popularity=_number(columns.popularity[place]),
            features={f.name: values[f.name][place] for f in self._features if f.level == "item"},
        )

    def _column(self, feature: Feature, columns: ListColumns) -> list[Any]:
        """A feature's values, one per list or item by its level."""
        if feature.kind == "numerical":
            context = feature.level == "context"
            place = (self._layout.context_num if context else self._layout.item_num).index(feature.name)
            return [_number(value) for value in (columns.context_num if context else columns.item_num)[:, place]]
        if feature.kind == "sequence":
            return self._histories(feature, columns.sequences[feature.name])
        if not feature.ragged:
            return [self._id(feature, value) for value in columns.cat[feature.name].tolist()]
        bag = columns.bags[feature.name]
        rows = np.split(bag.values, np.cumsum(bag.lengths)[:-1]) if len(bag.lengths) else []
        return [self._bag(feature, row.tolist()) for row in rows]

    def _hex(self, value: int) -> str:
        return f"{value:016x}"[: self._digits]

    def _id(self, feature: Feature, value: int) -> str:
        if value < FIRST_ID:
            return WORDS[value]
        listed, name = self._listed.get(feature.name, {}), self._names.values.get(feature.name, {}).get(value)
        if listed and value not in listed:
            return f"unknown ({name or self._hex(value)})"
        return listed.get(value) or name or self._hex(value)

    def _bag(self, feature: Feature, ids: list[int]) -> Any:
        """A text where it is known; else a list of ids, or a word where there is no value."""
        if not ids:
            return WORDS[EMPTY]
        if ids[0] < FIRST_ID:
            return WORDS[ids[0]]
        return self._names.texts.get(feature.name, {}).get(tuple(ids)) or [self._id(feature, value) for value in ids]

    def _histories(self, feature: Feature, found: Histories) -> list[Any]:
        assert feature.history is not None
        ends = np.cumsum(found.lengths)
        values: list[Any] = []
        for end, length in zip(ends, found.lengths, strict=True):
            rows = range(end - length, end)
            unseen = length == 1 and found.item[rows[0]] == UNSEEN
            values.append(WORDS[UNSEEN] if unseen else [self._event(feature.history.events, found, row) for row in rows])
        return values

    def _event(self, events: Sequence[str], found: Histories, row: int) -> Event:
        item, action = int(found.item[row]), int(found.action[row]) - FIRST_ID
        name = self._names.items.get(item) or WORDS.get(item) or self._hex(item)
        return Event(name, events[action] if 0 <= action < len(events) else WORDS[UNKNOWN], round(float(found.age[row]), 3))


def _utc(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)
    return moment.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "")


def _number(value: np.float32) -> Any:
    """The shortest number that is this float32, or a word."""
    if np.isneginf(value):
        return WORDS[UNSEEN]
    return float(str(value)) if np.isfinite(value) else "missing"
