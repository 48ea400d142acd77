"""The Beam steps on one partition of customers: what it can work out alone, and, with the answers of the others, its records."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from cvr.elwc import encode_elwc
from cvr.records import ListColumns, encode, slice_lists
from pipelines import coverage, statistics, write
from pipelines.batches import column, concat, to_bytes
from pipelines.counts import Counts
from pipelines.es3 import pages
from pipelines.es3.queries import QUERIES
from pipelines.features import Encoder
from pipelines.lists import describe
from pipelines.prepare import LISTS, Prepared, Tables, prepare
from pipelines.settings import DAY_MS, Plan, Settings, plan_of
from pipelines.slices import find_cuts, part_name, slice_pieces, survey, without
from pipelines.spill import load, spilled

ENCODERS = {"lists": encode, "elwc": encode_elwc}
EXCHANGE, SLICES, COUNTS = "exchange", "slices", "counts"
PAGES, PAGE_QUESTIONS = "pages", "page_questions"
_ONE_SLICE = threading.Lock()
"""Threads of one process prepare one slice at a time: with its neighbours' rows within the windows it is larger than a partition."""


class Prepare(beam.DoFn):
    """(partition, pieces) -> (partition, tables for its records); tags `exchange` (key partition, counts and requests), `slices` (place,
    pieces of split customers) and `counts`; for lists of other domains `pages` (place, their tables), `page_questions` (key partition,
    pieces) and `queries` (tables of queries). Where nothing is asked of other partitions, the records are written at once."""

    def __init__(self, settings: Settings, may_split: bool) -> None:
        self._settings, self._may_split = settings, may_split

    def process(self, element: tuple[int, Iterable[bytes]], log_end: int) -> Iterator[Any]:
        partition, plan = element[0], plan_of(self._settings)
        pieces = list(element[1])
        cuts = find_cuts(pieces, self._settings.split_rows) if self._may_split else []
        if cuts and plan.es3.on:  # its steps need a customer's rows in one piece
            yield beam.pvalue.TaggedOutput(COUNTS, {"es3": {"unsplit_customers": len(cuts)}})
            cuts = []
        if cuts:
            splits, copies = survey(pieces, cuts, plan)
            yield beam.pvalue.TaggedOutput(COUNTS, copies)
            yield from self._tagged(SLICES, slice_pieces(partition, pieces, splits, plan))
            del splits
        end = log_end if self._settings.log_end is None else self._settings.log_end
        with contextlib.nullcontext() if self._may_split else _ONE_SLICE:
            tables = concat(without(pieces, cuts) if cuts else map(load, pieces))
            found = prepare(tables, plan, self._settings, end, sliced=not self._may_split)
            del tables
            pa.default_memory_pool().release_unused()
        asked = found.requests.pieces(partition, self._settings.key_partitions)
        yield from self._tagged(EXCHANGE, itertools.chain(found.told, asked))
        yield beam.pvalue.TaggedOutput(COUNTS, {**found.counts, "partitions": {"split_customers": len(cuts)}})
        yield from self._pages(partition, found)
        if not found.tables:
            return
        if not plan.exchanges:
            yield beam.pvalue.TaggedOutput(COUNTS, finish(partition, found.tables, plan, self._settings))
            return
        known = ((partition, to_bytes(name, table)) for name, table in found.tables.items())
        yield from spilled(known, self._settings.spill_folder)

    def _pages(self, partition: int, found: Prepared) -> Iterator[beam.pvalue.TaggedOutput]:
        """What becomes lists of other domains, and what others need for theirs."""
        if found.asked is not None and len(found.asked):
            yield beam.pvalue.TaggedOutput(QUERIES, to_bytes(QUERIES, found.asked))
        yield from self._tagged(PAGE_QUESTIONS, found.pairs)
        if found.feed is not None:
            place = pages.place_of(partition)
            yield from self._tagged(PAGE_QUESTIONS, found.feed.questions(place, self._settings.key_partitions))
            yield from self._tagged(PAGES, ((place, piece) for piece in pages.page_tables(found.feed)))

    def _tagged(self, tag: str, pieces: Iterable[tuple[int, bytes]]) -> Iterator[beam.pvalue.TaggedOutput]:
        return (beam.pvalue.TaggedOutput(tag, piece) for piece in spilled(pieces, self._settings.spill_folder))


class Finish(beam.DoFn):
    """(partition, its tables and answers) -> record files; gives counts, with an entry per file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Counts]:
        yield finish(element[0], concat(map(load, element[1])), plan_of(self._settings), self._settings)


def finish(partition: int, tables: Tables, plan: Plan, settings: Settings) -> Counts:
    """Encodes the lists of a partition and writes their files; gives what each split holds."""
    columns, split = Encoder(plan, tables).columns(), column(tables[LISTS], "split")
    tables.clear()
    names = [name for name, _, _ in settings.splits()]
    found = {name: describe(columns, split == index, plan) for index, name in enumerate(names) if (split == index).any()}
    for index, name in enumerate(names):
        if name in found:
            chosen = split == index
            found[name]["statistics"] = statistics.as_counts(statistics.of_columns(plan.layout, columns, chosen))
            found[name]["coverage"] = coverage.of_columns(plan.spec, columns, chosen)
            found[name]["files"] = []
    for name, entry in _write(partition, columns, split, plan, settings):
        found[name]["files"].append(entry)
    return {"splits": found}


def _write(
    partition: int, columns: ListColumns, split: np.ndarray, plan: Plan, settings: Settings
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Encodes and writes one file per split and day, lists in time order; gives (split, entry of the manifest)."""
    days = columns.time // DAY_MS
    begins = np.flatnonzero(np.append(True, (split[1:] != split[:-1]) | (days[1:] != days[:-1])))
    names = [name for name, _, _ in settings.splits()]
    for begin, end in zip(begins, np.append(begins[1:], len(days)), strict=True):
        name = names[int(split[begin])]
        day = (datetime.date(1970, 1, 1) + datetime.timedelta(days=int(days[begin]))).isoformat()
        path = f"{settings.data_folder}/{name}/{day}/part-{part_name(partition)}.tfrecord.gz"
        records = ENCODERS[settings.record_format](plan.spec, slice_lists(plan.spec, columns, int(begin), int(end)))
        size, sha256 = write.write_records(FileSystems.join(settings.output, path), records)
        items = int(columns.lengths[begin:end].sum())
        about = {"path": path, "day": day, "lists": int(end - begin), "items": items, "bytes": size, "sha256": sha256}
        yield name, about
