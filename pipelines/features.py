"""Feature values of lists, as the columns that `cvr.records.encode` takes: null -> EMPTY or NaN, absent or too early -> UNSEEN or -inf."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

from cvr.records import Bag, Histories, ListColumns
from cvr.schema import Feature
from cvr.transforms import EMPTY, FIRST_ID, UNSEEN, UNSEEN_VALUE, char_ngrams, hash_strings
from pipelines import aggregates, history
from pipelines.aggregates import CountTable
from pipelines.batches import column, encode_dictionary
from pipelines.lists import DAY_MS, Lists
from pipelines.settings import Component, Plan
from pipelines.values import ABSENT

_EPOCH = datetime.date(1970, 1, 1)


def _ids(distinct: np.ndarray) -> np.ndarray:
    """Ids of distinct texts and, last, of null."""
    hashed = hash_strings(distinct).numpy() if len(distinct) else np.zeros(0, np.int64)
    return np.append(np.where(distinct == ABSENT, UNSEEN, hashed), EMPTY).astype(np.int64)


def split_values(text: str, separator: str) -> list[str]:
    """The values in the text of a feature with a separator: trimmed, empty ones left out."""
    return [part for part in (piece.strip() for piece in text.split(separator)) if part]


def _bags(distinct: np.ndarray, feature: Feature) -> Bag:
    """Bags of ids of distinct texts and, last, of null; never an empty bag."""
    texts = np.append(distinct, "")
    if feature.kind == "text":
        ragged = char_ngrams(texts.tolist(), feature.ngrams, feature.max_chars)
        values, lengths = ragged.values.numpy(), ragged.row_lengths().numpy()
    else:
        parts = [split_values(text, feature.separator or "") or [""] for text in texts]
        lengths = np.array([len(part) for part in parts], np.int64)
        values = hash_strings([value for part in parts for value in part]).numpy()
    absent = texts == ABSENT
    if absent.any():
        return _replace(Bag(values, lengths), absent, UNSEEN)
    return Bag(values, lengths)


def _replace(bag: Bag, rows: np.ndarray, value: int) -> Bag:
    """The bags of the masked rows become [value]."""
    lengths = np.where(rows, 1, bag.lengths)
    kept = bag.values[np.repeat(~rows, bag.lengths)]
    values = np.full(int(lengths.sum()), value, np.int64)
    values[np.repeat(~rows, lengths)] = kept
    return Bag(values, lengths)


def _gather(bag: Bag, rows: np.ndarray) -> Bag:
    """The bags of the given rows, one after the other."""
    lengths = bag.lengths[rows]
    starts = np.repeat((np.cumsum(bag.lengths) - bag.lengths)[rows], lengths)
    within = np.arange(len(starts)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Bag(bag.values[starts + within], lengths)


class Encoder:
    """Encodes the features of one partition's lists.

    Args:
      plan: the spec and what it needs.
      lists: the lists.
      engagements: the partition's engagements, for histories.
      items: attributes of all items, sorted by `item` and each once, or None.
      tables: counts of every component.
    """

    def __init__(
        self,
        plan: Plan,
        lists: Lists,
        engagements: pa.Table,
        items: pa.Table | None,
        tables: dict[Component, CountTable],
    ) -> None:
        self._plan, self._lists, self._engagements, self._tables = plan, lists, engagements, tables
        self._item = column(lists.rows, "item")
        self._items, self._item_place = self._join(items)

    def _join(self, items: pa.Table | None) -> tuple[pa.Table | None, np.ndarray]:
        """(attributes of this partition's items, the row of each impression in them or one past the end). int64 [N]."""
        if items is None or not len(items):
            return None, np.zeros(len(self._item), np.int64)
        distinct, back = np.unique(self._item, return_inverse=True)
        known = column(items, "item")
        place = np.minimum(np.searchsorted(known, distinct), len(known) - 1)
        hit = known[place] == distinct
        row = np.where(hit, np.cumsum(hit) - 1, hit.sum())
        return items.take(pa.array(place[hit])), row[back]

    def _too_early(self, feature: Feature, level: str) -> np.ndarray:
        first = (feature.introduced_on - _EPOCH).days * DAY_MS if feature.introduced_on else None
        early = np.zeros(len(self._lists.time), bool) if first is None else self._lists.time < first
        return early if level == "context" else np.repeat(early, self._lists.lengths)

    def _rows(self, feature: Feature) -> np.ndarray | slice:
        return self._lists.starts if feature.level == "context" else slice(None)

    def _numbers(self, feature: Feature) -> np.ndarray:
        if feature.aggregate:
            return self._aggregate(feature)
        origin, _, name = (feature.column or "").partition(".")
        if origin == "impression":
            return column(self._lists.rows, f"n:{name}")[self._rows(feature)]
        if self._items is None:
            return np.full(len(self._item), UNSEEN_VALUE)[self._rows(feature)]
        return np.append(column(self._items, f"n:{name}"), np.nan)[self._item_place][self._rows(feature)]

    def _aggregate(self, feature: Feature) -> np.ndarray:
        assert feature.aggregate is not None
        rows, rows_of = self._lists.rows, self._rows(feature)
        columns: dict[str, np.ndarray] = {name: column(rows, name)[rows_of] for name in feature.aggregate.by}
        times = self._lists.time if feature.level == "context" else np.repeat(self._lists.time, self._lists.lengths)
        keys = aggregates.keys_of(feature.aggregate.by, columns, len(times))
        tables = [self._tables[component] for component in self._plan.components_of(feature.name)]
        return aggregates.value(feature.aggregate, tables, keys, times)

    def matrix(self, level: str) -> np.ndarray:
        """All stored numericals of a level in spec order, float32 [L or N, C]."""
        size = len(self._lists.time) if level == "context" else len(self._item)
        features = self._plan.spec.select(kind="numerical", level=level, stored=True)
        values = np.empty((size, len(features)), np.float32)
        largest = np.finfo(np.float32).max
        for place, feature in enumerate(features):
            numbers = self._numbers(feature)
            numbers = np.where(np.isneginf(numbers), numbers, np.clip(numbers, -largest, largest))
            values[:, place] = np.where(self._too_early(feature, level), UNSEEN_VALUE, numbers)
        return values

    def _texts(self, feature: Feature) -> tuple[np.ndarray, np.ndarray]:
        """(codes of the feature's rows, distinct texts); one past the last text is null."""
        origin, _, name = (feature.column or "").partition(".")
        if origin == "impression":
            codes, distinct = encode_dictionary(self._lists.rows.column(f"s:{name}"))
            return codes[self._rows(feature)], distinct
        if self._items is None:
            return np.zeros(len(self._item), np.int64)[self._rows(feature)], np.array([ABSENT], object)
        codes, distinct = encode_dictionary(self._items.column(f"s:{name}"))
        return np.append(codes, len(distinct))[self._item_place][self._rows(feature)], distinct

    def categories(self, feature: Feature) -> np.ndarray:
        """Ids of a categorical with one value, int64 [L or N]."""
        codes, distinct = self._texts(feature)
        return np.where(self._too_early(feature, feature.level), UNSEEN, _ids(distinct)[codes])

    def bags(self, feature: Feature) -> Bag:
        """Ids of a text or of a categorical with several values."""
        codes, distinct = self._texts(feature)
        found = _gather(_bags(distinct, feature), codes)
        early = self._too_early(feature, feature.level)
        return _replace(found, early, UNSEEN) if early.any() else found

    def histories(self, feature: Feature) -> Histories:
        """Histories of the lists' customers."""
        assert feature.history is not None
        customers = column(self._lists.rows, "customer")[self._lists.starts]
        found = history.histories(self._engagements, customers, self._lists.time, feature.history, self._plan)
        return history.with_unseen(found, self._too_early(feature, "context"))

    def columns(self) -> ListColumns:
        """Everything that a record holds."""
        lists, spec = self._lists, self._plan.spec
        times = np.repeat(lists.time, lists.lengths)
        stored = spec.select(stored=True)
        popularity = self._tables[self._plan.popularity].between(self._item, times, 1, None, 0)
        return ListColumns(
            search_id=lists.rows.column("search_id").to_numpy()[lists.starts],
            time=lists.time,
            lengths=lists.lengths,
            item=np.maximum(self._item, FIRST_ID),
            position=column(lists.rows, "position"),
            labels=(lists.delay >= 0).astype(np.int64),
            delay=lists.delay,
            popularity=popularity.astype(np.float32),
            context_num=self.matrix("context"),
            item_num=self.matrix("item"),
            cat={f.name: self.categories(f) for f in stored if f.kind == "categorical" and not f.ragged},
            bags={f.name: self.bags(f) for f in stored if f.ragged},
            sequences={f.name: self.histories(f) for f in self._plan.histories},
        )
