"""Feature values of lists, as the columns that `cvr.records.encode` takes: null -> EMPTY or NaN, absent or too early -> UNSEEN or -inf."""

from __future__ import annotations

import datetime
import functools
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import tensorflow as tf

from cvr.records import Bag, CodedBag, Histories, ListColumns
from cvr.schema import Feature
from cvr.transforms import EMPTY, FIRST_ID, UNSEEN, UNSEEN_VALUE, char_ngrams, hash_strings
from pipelines import aggregates, history
from pipelines.batches import coded, column
from pipelines.exchange import ANSWERS, ITEMS, answered, by_question
from pipelines.lists import DELAY, UNSHOWN
from pipelines.prepare import HISTORY, LISTS, ROWS, Tables
from pipelines.settings import DAY_MS, Place, Plan
from pipelines.values import ABSENT

_EPOCH = datetime.date(1970, 1, 1)


def split_values(text: str, separator: str) -> list[str]:
    """The values in the text of a feature with a separator: trimmed, empty ones left out."""
    return [part for part in (piece.strip() for piece in text.split(separator)) if part]


class _KnownBags:
    """Bags of the texts that this process has met, so that the same titles are cut into n-grams once and not in every partition."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._bag = Bag(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._calls = 0

    def of(self, texts: Sequence[str], feature: Feature) -> Bag:
        """The bags of texts, new ones included."""
        new = list(dict.fromkeys(text for text in texts if text not in self._rows))
        if len(self._rows) + len(new) > MOST_KNOWN_TEXTS:
            self.__init__()  # type: ignore[misc]
            new = list(dict.fromkeys(texts))
        if new:
            self._calls += 1
            made = _make_bags(new, feature, self._calls > CALLS_WORTH_TRACING)
            self._rows |= {text: len(self._rows) + place for place, text in enumerate(new)}
            self._bag = Bag(np.concatenate([self._bag.values, made.values]), np.concatenate([self._bag.lengths, made.lengths]))
        found = CodedBag(self._bag, np.fromiter((self._rows[text] for text in texts), np.int64, len(texts)))
        return Bag(found.values, found.lengths)


_known = threading.local()
MOST_KNOWN_TEXTS = 300_000
CALLS_WORTH_TRACING = 3
"""Cutting n-grams takes hundreds of small operations: as a traced graph a call costs a tenth, and tracing as much as some calls."""


def bags_of(distinct: np.ndarray, feature: Feature) -> Bag:
    """Bags of ids of distinct texts, then that of null and that of an absent column; never an empty bag."""
    key = (feature.kind, feature.ngrams, feature.max_chars, feature.separator)
    known = _known.__dict__.setdefault("bags", {}).setdefault(key, _KnownBags())
    return known.of([*distinct, "", ABSENT], feature)


@functools.lru_cache(maxsize=64)
def _traced_ngrams(orders: tuple[int, ...], max_chars: int) -> Callable[[list[str]], tf.RaggedTensor]:
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(lambda texts: char_ngrams(texts, orders, max_chars), input_signature=signature)


def _make_bags(texts: list[str], feature: Feature, traced: bool) -> Bag:
    if feature.kind == "text":
        arguments = feature.ngrams, feature.max_chars
        ragged = _traced_ngrams(*arguments)(texts) if traced else char_ngrams(texts, *arguments)
        values, lengths = ragged.values.numpy(), ragged.row_lengths().numpy()
    else:
        parts = [split_values(text, feature.separator or "") or [""] for text in texts]
        lengths = np.array([len(part) for part in parts], np.int64)
        values = hash_strings([value for part in parts for value in part]).numpy()
    return _replace(Bag(values, lengths), np.array([text == ABSENT for text in texts]), UNSEEN)


def _replace(bag: Bag, rows: np.ndarray, value: int) -> Bag:
    """The bags of the masked rows become [value]."""
    if not rows.any():
        return bag
    lengths = np.where(rows, 1, bag.lengths)
    kept = bag.values[np.repeat(~rows, bag.lengths)]
    values = np.full(int(lengths.sum()), value, np.int64)
    values[np.repeat(~rows, lengths)] = kept
    return Bag(values, lengths)


def _shown_at(positions: np.ndarray) -> np.ndarray:
    """Positions as records hold them: 0 for what was not shown."""
    return np.where(positions == UNSHOWN, 0, positions)


class Encoder:
    """Encodes the features of one partition's lists from the tables of `pipelines.prepare` and the answers of other partitions."""

    def __init__(self, plan: Plan, tables: Tables) -> None:
        self._plan, self._tables = plan, tables
        self._rows, self._lists = tables[ROWS], tables[LISTS]
        self._lengths, self._time = column(self._lists, "length"), column(self._lists, "time")
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._item = column(self._rows, "item")
        self._answers = by_question(tables.get(ANSWERS), len(plan.questions))

    @functools.cached_property
    def _item_row(self) -> np.ndarray:
        """The row of each impression's item in the table of items, one past the end for an item that has no attributes. int64 [N]."""
        asked, items = column(self._rows, "i"), self._tables[ITEMS]
        row = np.full(int(asked.max(initial=0)) + 1, len(items), np.int64)
        row[column(items, "place")] = np.arange(len(items))
        return row[asked]

    def _too_early(self, feature: Feature) -> np.ndarray | None:
        """Mask of the feature's values [L] or [N] from before its first day; None without any."""
        if feature.introduced_on is None:
            return None
        early = self._time < (feature.introduced_on - _EPOCH).days * DAY_MS
        if not early.any():
            return None
        return early if feature.level == "context" else np.repeat(early, self._lengths)

    def _origin(self, feature: Feature) -> tuple[pa.Table | None, str, np.ndarray | slice | None]:
        """(table that a column is in, its name, its rows): None for a catalogue that is not there, and for all rows."""
        origin, _, name = (feature.column or "").partition(".")
        if origin == "impression":
            return self._rows, name, self._starts if feature.level == "context" else None
        if ITEMS not in self._tables:
            return None, name, None
        return self._tables[ITEMS], name, self._item_row[self._starts] if feature.level == "context" else self._item_row

    def _size(self, feature: Feature) -> int:
        return len(self._time) if feature.level == "context" else len(self._item)

    def _plain(self, feature: Feature, kind: str, null: float, absent: float) -> np.ndarray:
        """Carried numbers or ids of a feature; `null` for an item that the catalogue lacks, `absent` without a catalogue."""
        table, name, rows = self._origin(feature)
        if table is None:
            return np.full(self._size(feature), absent)
        values = column(table, f"{kind}:{name}")
        if table is not self._rows:
            values = np.append(values, np.array(null, values.dtype))
        return values if rows is None else values[rows]

    def _count(self, place: Place, level: str) -> np.ndarray:
        """A count for each list or row, int64 [L] or [N]."""
        number, index = place
        question = self._plan.questions[number]
        table = self._rows if question.per_item else self._lists
        if f"q:{number}" in table.column_names:
            values = answered(self._answers[number], column(table, f"q:{number}"), index)
        else:
            values = column(table, f"v:{number}:{index}")
        return values if question.per_item or level == "context" else np.repeat(values, self._lengths)

    def _known(self, place: Place, level: str) -> np.ndarray:
        """Which lists or rows have a key for a question, bool [L] or [N]."""
        number, _ = place
        question = self._plan.questions[number]
        table = self._rows if question.per_item else self._lists
        name = f"q:{number}" if f"q:{number}" in table.column_names else f"k:{number}"
        known = column(table, name) >= 0
        return known if question.per_item or level == "context" else np.repeat(known, self._lengths)

    def _aggregate(self, feature: Feature) -> np.ndarray:
        assert feature.aggregate is not None
        places = self._plan.places(feature.name)
        counts = [self._count(place, feature.level) for place in places]
        return aggregates.rate(feature.aggregate, counts, self._known(places[0], feature.level))

    def matrix(self, level: str) -> np.ndarray:
        """All stored numericals of a level in spec order, float32 [L or N, C]."""
        features = self._plan.spec.select(kind="numerical", level=level, stored=True)
        values = np.empty((len(self._time) if level == "context" else len(self._item), len(features)), np.float32)
        for place, feature in enumerate(features):
            values[:, place] = self._aggregate(feature) if feature.aggregate else self._plain(feature, "n", np.nan, UNSEEN_VALUE)
            early = self._too_early(feature)
            if early is not None:
                values[early, place] = UNSEEN_VALUE
        return values

    def categories(self, feature: Feature) -> np.ndarray:
        """Ids of a categorical with one value, int64 [L or N]."""
        ids = self._plain(feature, "c", EMPTY, UNSEEN).astype(np.int64, copy=False)
        early = self._too_early(feature)
        return ids if early is None else np.where(early, UNSEEN, ids)

    def bags(self, feature: Feature) -> CodedBag:
        """Ids of a text or of a categorical with several values."""
        table, name, rows = self._origin(feature)
        if table is None:
            codes, distinct = np.ones(self._size(feature), np.int64), np.zeros(0, object)
        else:
            codes, texts = coded(table, f"s:{name}")
            distinct = texts.to_numpy(zero_copy_only=False)
            codes = np.append(codes, len(distinct)) if table is not self._rows else codes
            codes = codes if rows is None else codes[rows]
        early = self._too_early(feature)
        return CodedBag(bags_of(distinct, feature), codes if early is None else np.where(early, len(distinct) + 1, codes))

    def histories(self, feature: Feature) -> Histories:
        """Histories of the lists' customers."""
        events, lengths = self._tables[f"{HISTORY}{feature.name}"], column(self._lists, f"h:{feature.name}")
        found = Histories(column(events, "item"), column(events, "action"), column(events, "age"), lengths)
        early = self._too_early(feature)
        return found if early is None else history.with_unseen(found, early)

    def columns(self) -> ListColumns:
        """Everything that a record holds."""
        stored = self._plan.spec.select(stored=True)
        popularity = self._plan.popularity
        counted = np.full(len(self._item), np.nan) if popularity is None else self._count(popularity, "item")
        delay = np.stack([column(self._rows, f"{DELAY}{name}") for name in self._plan.tasks], axis=1)
        return ListColumns(
            search_id=self._lists.column("search_id").to_numpy(),
            time=self._time,
            lengths=self._lengths,
            item=np.maximum(self._item, FIRST_ID),
            position=_shown_at(column(self._rows, "position")),
            labels=(delay >= 0).astype(np.int64),
            delay=delay,
            popularity=counted.astype(np.float32),
            context_num=self.matrix("context"),
            item_num=self.matrix("item"),
            cat={f.name: self.categories(f) for f in stored if f.kind == "categorical" and not f.ragged},
            bags={f.name: self.bags(f) for f in stored if f.ragged},
            sequences={f.name: self.histories(f) for f in self._plan.histories},
        )
