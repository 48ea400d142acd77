"""The steps of a build on tables in memory: the graph of `pipelines.job` with dictionaries for its shuffles, to the encoded records."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from cvr.records import ListColumns, decode, encode
from pipelines import coverage
from pipelines.batches import column, concat
from pipelines.counts import Counts, merge_all
from pipelines.es3.queries import QUERIES, earliest
from pipelines.es3.steps import AnswerPages, Searchify
from pipelines.exchange import Answer
from pipelines.features import Encoder
from pipelines.partition import COUNTS, EXCHANGE, PAGE_QUESTIONS, PAGES, SLICES, Prepare
from pipelines.prepare import LISTS
from pipelines.reading import ReadFile
from pipelines.settings import Settings, plan_of
from pipelines.sources.files import InputFile
from pipelines.spill import load
from tests.pipelines.logs import ENGAGEMENT_TYPES, HOUR, IMPRESSION_TYPES, SPEC, table

Rows = Sequence[dict[str, Any]]
Shuffled = dict[int, list[bytes]]
ITEM_TYPES = {"item_id": pa.string(), "title": pa.string(), "stock": pa.float64()}
CANDIDATE_TYPES = {name: pa.string() for name in ("search_id", "customer_id", "item_id")}
TYPES = {"impressions": IMPRESSION_TYPES, "engagements": ENGAGEMENT_TYPES, "items": ITEM_TYPES, "candidates": CANDIDATE_TYPES}


@dataclasses.dataclass(frozen=True)
class Log:
    """Files of a log, each a table's name and its rows."""

    files: list[tuple[str, Rows]]

    @classmethod
    def of(cls, impressions: Rows, engagements: Rows, items: Rows = (), candidates: Rows = ()) -> Log:
        """One file per table; none for items and candidates where there are none."""
        files = [("impressions", impressions), ("engagements", engagements), ("items", items), ("candidates", candidates)]
        return cls([(name, rows) for name, rows in files if rows])


@dataclasses.dataclass(frozen=True)
class Built:
    """What the steps gave: `records` by (split, search id), and merged counts, with the coverage that a manifest would hold."""

    records: dict[tuple[str, str], bytes]
    counts: Counts
    settings: Settings

    def columns(self) -> ListColumns:
        """All records decoded, in the order of their keys."""
        return decode(plan_of(self.settings).spec, [self.records[key] for key in sorted(self.records)])


def steps_settings(spec: str = SPEC, **changes: Any) -> Settings:
    """Settings that read and write no files; everything is kept by default."""
    fields: dict[str, Any] = {"partitions": 3, "drop_unconverted": "none", "build_id": "0" * 12, "spill": False}
    fields |= {"popularity_bucket": HOUR} | changes
    return Settings(source="canonical", input="nowhere", output="nowhere", spec_text=spec, **fields)


class _Graph:
    """Collects what steps give, by tag."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counts: list[Counts] = []

    def run(self, elements: Iterable[Any]) -> dict[str, Shuffled]:
        """Elements by tag, main ones under "", each grouped by key; counts are kept aside."""
        found: dict[str, Shuffled] = defaultdict(lambda: defaultdict(list))
        for element in elements:
            tag, value = (element.tag, element.value) if isinstance(element, beam.pvalue.TaggedOutput) else ("", element)
            if tag == COUNTS:
                self.counts.append(value)
            elif tag == QUERIES:
                found[tag][0].append(value)
            else:
                found[tag][value[0]].append(value[1])
        return found


def together(*parts: Shuffled) -> Shuffled:
    """Pieces of all parts by key."""
    joined: Shuffled = defaultdict(list)
    for part in parts:
        for key, pieces in part.items():
            joined[key] += pieces
    return joined


def _read(log: Log, graph: _Graph) -> tuple[Shuffled, Shuffled]:
    """(rows by partition, items by key partition)"""
    reader = ReadFile(graph.settings)
    counts: Counts = {"rows": {}, "bad": {}, "events": {}}
    elements: list[Any] = []
    for index, (name, rows) in enumerate(log.files):
        elements += reader._clean(InputFile(f"file {index}", name, index), name, table(rows, TYPES[name]), 0, counts, [])
    graph.counts.append(counts)
    found = graph.run(elements)
    return found[""], found["items"]


def _prepare(rows: Shuffled, graph: _Graph, may_split: bool) -> dict[str, Shuffled]:
    step, log_end = Prepare(graph.settings, may_split), graph.counts[0].get("last_time", 0)
    return graph.run(element for key in sorted(rows) for element in step.process((key, rows[key]), log_end))


def _searchify(first: dict[str, Shuffled], items: Shuffled, graph: _Graph) -> dict[str, Shuffled]:
    """Lists of other domains, as `pipelines.es3.graph` makes them."""
    asked, answer = together(first[PAGE_QUESTIONS], items), AnswerPages(graph.settings)
    answers = graph.run(element for key in sorted(asked) for element in answer.process((key, asked[key])))
    lists, step = together(first[PAGES], answers[""]), Searchify(graph.settings)
    known = earliest([earliest(first[QUERIES][0][:1]), *first[QUERIES][0][1:]])
    return graph.run(element for key in sorted(lists) for element in step.process((key, lists[key]), known))


def run(log: Log, settings: Settings) -> Built:
    """Builds the records of a log as a Beam pipeline would."""
    graph = _Graph(settings)
    rows, items = _read(log, graph)
    first = _prepare(rows, graph, may_split=True)
    second = _prepare(first[SLICES], graph, may_split=False)
    feed = _searchify(first, items, graph) if settings.es3.searchify else graph.run(())
    asked = together(first[EXCHANGE], second[EXCHANGE], feed[EXCHANGE], items)
    answer = Answer(settings)
    answers = graph.run(element for key in sorted(asked) for element in answer.process((key, asked[key])))
    known = together(first[""], second[""], feed[""], answers[""])
    records: dict[tuple[str, str], bytes] = {}
    for key in sorted(known):
        records = _encoded(known[key], settings, graph, records)
    return Built(records, merge_all(graph.counts), settings)


def _encoded(
    pieces: list[bytes], settings: Settings, graph: _Graph, records: dict[tuple[str, str], bytes]
) -> dict[tuple[str, str], bytes]:
    """The records so far and those of one partition; no search may have two."""
    plan, tables = plan_of(settings), concat(map(load, pieces))
    columns = Encoder(plan, tables).columns()
    names = [name for name, _, _ in settings.splits()]
    split = column(tables[LISTS], "split")
    made = {(names[place], text): record for place, text, record in zip(split, columns.search_id, encode(plan.spec, columns), strict=True)}
    assert len(made) == len(split) and not made.keys() & records.keys(), "a search has two records"
    for place, name in enumerate(names):
        graph.counts.append({"splits": {name: {"coverage": coverage.of_columns(plan.spec, columns, split == place)}}})
    return records | made
