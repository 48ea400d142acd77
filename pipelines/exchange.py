"""What partitions of customers ask of each other: counts by key and time, and attributes of items, joined by a second shuffle.

A customer's partition sends its own event counts and its questions to the partitions of the keys, `hash(key) mod partitions`; there the
counts of all are added up and each question is answered; the answers go back. So no step holds more than the rows, counts or questions of
one partition, however many keys there are. Three tables travel, each named as here:

    counts      component, key, bucket, count                     customer partition -> key partition
    requests    question, key, moment, place, partition           customer partition -> key partition; question ITEM asks for an item
    answers     question, place, count_0 .. count_n               key partition -> customer partition
    items       item and the attributes                           files -> key partition; with `place`, key partition -> customer partition

Where there is a catalogue, every partition gets a table of items, be it an empty one: then an item that is not in it has missing values,
which is not the same as having no catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.transforms import PAD
from pipelines import aggregates
from pipelines.aggregates import NONE, CountTable
from pipelines.batches import column, concat, split, split_at, to_bytes
from pipelines.lists import Lists
from pipelines.settings import Plan, Question, Settings, plan_of
from pipelines.spill import load, spilled

COUNTS, REQUESTS, ANSWERS, ITEMS = "counts", "requests", "answers", "items"
ITEM = -1
"""The question about an item's attributes; its moment is 0."""
_PIECE = tuple[int, bytes]


def asked_rows(question: Question, lists: Lists) -> tuple[np.ndarray, np.ndarray]:
    """A question's (keys, moments), one per row where the key differs by item, else one per list."""
    rows = None if question.per_item else lists.starts
    columns = {name: column(lists.rows, name) for name in question.by}
    columns = columns if rows is None else {name: values[rows] for name, values in columns.items()}
    times = np.repeat(lists.time, lists.lengths) if question.per_item else lists.time
    return aggregates.keys_of(question.by, columns, len(times)), aggregates.moments_of(question, times)


class Requests:
    """Collects the questions of one partition, each (key, moment) once; `places` says which answer belongs to each list or row."""

    def __init__(self) -> None:
        self.places: dict[int, np.ndarray] = {}
        self._tables: list[pa.Table] = []

    def add(self, question: int, keys: np.ndarray, moments: np.ndarray) -> None:
        """Asks a question about keys [R]; those that are PAD have no answer: their place is NONE."""
        codes, first = aggregates.distinct_pairs(keys, moments)
        asked = keys[first] != PAD
        numbers = np.where(asked, np.cumsum(asked) - 1, NONE)
        self.places[question] = numbers[codes]
        first = first[asked]
        self._tables.append(
            pa.table(
                {
                    "question": np.full(len(first), question, np.int16),
                    "key": keys[first],
                    "moment": moments[first],
                    "place": np.arange(len(first), dtype=np.int32),
                }
            )
        )

    def pieces(self, partition: int, partitions: int) -> Iterator[_PIECE]:
        """All requests, by the partition of their key."""
        table = pa.concat_tables(self._tables).combine_chunks() if self._tables else None
        if table is not None and len(table):
            table = table.append_column("partition", pa.array(np.full(len(table), partition, np.int64)))
            yield from split(REQUESTS, table, column(table, "key"), partitions)


def count_pieces(
    questions: Sequence[Question], impressions: pa.Table, engagements: pa.Table, plan: Plan, partitions: int
) -> Iterator[_PIECE]:
    """This partition's event counts for the given questions, by the partition of their key."""
    wanted = {(q.by, q.bucket) for q in questions}
    tables = []
    for number, component in enumerate(plan.components):
        if (component.by, component.bucket) in wanted:
            counted = aggregates.partial_counts(component, impressions, engagements, plan)
            tables.append(counted.append_column("component", pa.array(np.full(len(counted), number, np.int16))))
    table = pa.concat_tables(tables).combine_chunks() if tables else None
    if table is not None and len(table):
        yield from split(COUNTS, table, column(table, "key"), partitions)


def local_answers(
    question: Question, impressions: pa.Table, engagements: pa.Table, plan: Plan, keys: np.ndarray, moments: np.ndarray
) -> np.ndarray:
    """Answers to a question about keys that all lie in this partition, int64 [R, C]."""
    tables = {
        component: CountTable(aggregates.partial_counts(component, impressions, engagements, plan))
        for component in plan.components
        if (component.by, component.bucket) == (question.by, question.bucket)
    }
    return aggregates.answer(question, tables, keys, moments)


def last_of_each(items: pa.Table) -> pa.Table:
    """Each item once, sorted by hash; of several rows of an item the last one counts, in the order of files and rows (`order`)."""
    keys, order = column(items, "item"), column(items, "order")
    rows = np.lexsort((order, keys))
    last = np.ones(len(rows), bool)
    last[:-1] = keys[rows][1:] != keys[rows][:-1]
    return items.take(pa.array(rows[last])).drop_columns(["order"])


class Answer(beam.DoFn):
    """(key partition, pieces) -> (customer partition, bytes): answers to its questions, and attributes of its items."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[_PIECE]:
        yield from spilled(self._answers(concat(map(load, element[1]))), self._settings.spill_folder)

    def _answers(self, tables: dict[str, pa.Table]) -> Iterator[_PIECE]:
        if REQUESTS not in tables:
            return
        plan, requests = plan_of(self._settings), tables[REQUESTS]
        numbers, partitions = column(requests, "question"), column(requests, "partition")
        if ITEMS in tables:
            yield from asked_items(requests.filter(pa.array(numbers == ITEM)), last_of_each(tables[ITEMS]))
        counts = _count_tables(tables.get(COUNTS), plan)
        found = [_answer(number, requests, np.flatnonzero(numbers == number), counts, plan) for number in range(len(plan.questions))]
        if found:
            rows = np.concatenate([np.flatnonzero(numbers == number) for number in range(len(plan.questions))])
            yield from split_at(ANSWERS, pa.concat_tables(found).combine_chunks(), partitions[rows])


def _count_tables(counts: pa.Table | None, plan: Plan) -> dict[aggregates.Component, CountTable]:
    if counts is None:
        return {}
    numbers = column(counts, "component")
    return {plan.components[number]: CountTable(counts.filter(pa.array(numbers == number))) for number in np.unique(numbers)}


def _answer(
    number: int, requests: pa.Table, rows: np.ndarray, tables: dict[aggregates.Component, CountTable], plan: Plan
) -> pa.Table:
    """`question`, `place` and one column per count, for the requests at `rows`; each (key, moment) is worked out once."""
    keys, moments, places = (column(requests, name)[rows] for name in ("key", "moment", "place"))
    codes, first = aggregates.distinct_pairs(keys, moments)
    counts = aggregates.answer(plan.questions[number], tables, keys[first], moments[first])
    width = max(len(question.counts) for question in plan.questions)
    none = np.zeros(len(rows), np.int64)
    columns = {f"count_{i}": counts[codes, i] if i < counts.shape[1] else none for i in range(width)}
    return pa.table({"question": np.full(len(rows), number, np.int16), "place": places.astype(np.int32), **columns})


def item_pieces(items: pa.Table, partitions: int) -> Iterator[_PIECE]:
    """A batch of the catalogue by key partition; those without any of its items get an empty table, so that all know there is one."""
    found = dict(split(ITEMS, items, column(items, "item"), partitions))
    nothing = to_bytes(ITEMS, items.slice(0, 0))
    yield from ((place, found.get(place, nothing)) for place in range(partitions))


def asked_items(requests: pa.Table, items: pa.Table) -> Iterator[_PIECE]:
    """The attributes of the requested items; a partition none of whose items has any gets an empty table."""
    partitions = column(requests, "partition")
    row = pd.Index(column(items, "item")).get_indexer(column(requests, "key"))
    known = row >= 0
    found = items.take(pa.array(row[known])).append_column("place", pa.array(column(requests, "place")[known]))
    yield from split_at(ITEMS, found, partitions[known])
    for partition in np.setdiff1d(partitions, partitions[known]):
        yield int(partition), to_bytes(ITEMS, found.slice(0, 0))


def by_question(answers: pa.Table | None, questions: int) -> list[pa.Table | None]:
    """The answers to each question."""
    if answers is None:
        return [None] * questions
    numbers = column(answers, "question")
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(questions + 1))
    return [answers.take(pa.array(order[begin:end])) for begin, end in zip(ends, ends[1:], strict=False)]


def answered(answers: pa.Table | None, places: np.ndarray, count: int) -> np.ndarray:
    """A count of a question's answers, int64 [R]; 0 for the place NONE."""
    found = np.zeros(int(places.max(initial=NONE)) + 2, np.int64)
    if answers is not None:
        found[column(answers, "place")] = column(answers, f"count_{count}")
    return found[places]
