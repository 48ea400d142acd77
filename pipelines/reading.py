"""The first Beam step: files -> cleaned Arrow batches in hash partitions, counts, and a dead-letter file of bad rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from pipelines import feature_table
from pipelines.batches import column, hash_distinct, split_at
from pipelines.counts import Counts
from pipelines.exchange import item_pieces
from pipelines.normalise import CANDIDATES, CLEANERS, IMPRESSIONS, ITEMS, SEARCHES, Cleaned, places_of, require_columns
from pipelines.settings import Settings, plan_of
from pipelines.sources import source
from pipelines.sources.files import InputFile
from pipelines.spill import spilled
from pipelines.write import write_bytes

_ROW_BITS = 40
MOST_BAD_ROWS = 10_000
"""Bad rows of one file that are written out; all are counted."""


def wanted_columns(settings: Settings) -> dict[str, set[str]]:
    """The columns beyond the canonical ones that a spec reads, per table."""
    plan = plan_of(settings)
    query = {"query"} if plan.needs_query else set()
    keys = set(settings.feature_table.keys) if settings.feature_table else set()
    return {
        "impressions": set(plan.columns("impression")) | query | keys,
        "engagements": set(),
        "items": set(plan.columns("item")),
        **({CANDIDATES: set(plan.candidate_columns)} if settings.es3.unexposed_per_list else {}),
    }


class ReadFile(beam.DoFn):
    """InputFile -> (partition, Arrow bytes); tags `items` (partition of the item, Arrow bytes), `counts` and `failures` (messages).

    A file that cannot be read becomes a failure, not an exception, so that the build ends with one message that names the file.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(self, file: InputFile) -> Iterator[Any]:
        counts: Counts = {"rows": {}, "bad": {}, "events": {}}
        letters: list[dict[str, Any]] = []
        try:
            offsets: dict[str, int] = {}
            for name, table in source(self._settings.source).read(file, wanted_columns(self._settings)):
                start = offsets.get(name, 0)
                offsets[name] = start + len(table)
                yield from self._clean(file, name, table, start, counts, letters)
        except CvrError as error:
            yield beam.pvalue.TaggedOutput("failures", str(error))
        if letters:
            lines = "".join(json.dumps(letter, default=str) + "\n" for letter in letters)
            path = FileSystems.join(self._settings.output, self._settings.data_folder, "bad", f"{file.index:05d}.jsonl")
            write_bytes(path, lines.encode())
        yield beam.pvalue.TaggedOutput("counts", counts)

    def _clean(
        self, file: InputFile, name: str, table: pa.Table, start: int, counts: Counts, letters: list[dict[str, Any]]
    ) -> Iterator[Any]:
        plan = plan_of(self._settings)
        require_columns(name, table.column_names, file.path)
        try:
            if name == IMPRESSIONS and self._settings.feature_table:
                table = feature_table.join(table, self._settings.feature_table)
            cleaned: Cleaned = CLEANERS[name](table, plan)
        except CvrError as error:
            raise CvrError(f"{file.path}: {error}") from error
        counts["rows"][name] = counts["rows"].get(name, 0) + len(table)
        counts["bad"][name] = counts["bad"].get(name, 0) + len(cleaned.bad)
        for event, times in cleaned.events.items():
            counts["events"][event] = counts["events"].get(event, 0) + times
        for row, reason in cleaned.bad[: max(MOST_BAD_ROWS - len(letters), 0)]:
            record = table.slice(row, 1).to_pylist()[0]
            letters.append({"table": name, "file": file.path, "row": start + row, "reason": reason, "record": record})
        if not len(cleaned.table):
            return
        if name == ITEMS:
            yield from self._items(file, start, cleaned.table)
            return
        if "time" in cleaned.table.column_names:
            last = int(column(cleaned.table, "time").max())
            counts["last_time"] = max(last, counts.get("last_time") or last)
        places = places_of(cleaned.table, self._settings.partitions)
        searches = _search_pieces(cleaned, places) if cleaned.searches else ()
        pieces = itertools.chain(searches, split_at(name, cleaned.table, places))
        yield from spilled(pieces, self._settings.spill_folder)

    def _items(self, file: InputFile, start: int, table: pa.Table) -> Iterator[Any]:
        order = (file.index << _ROW_BITS) + start + np.arange(len(table))
        pieces = item_pieces(table.append_column("order", pa.array(order)), self._settings.key_partitions)
        yield from (beam.pvalue.TaggedOutput("items", piece) for piece in spilled(pieces, self._settings.spill_folder))


def _search_pieces(cleaned: Cleaned, places: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """The table `searches` of a batch: each search id once in every partition that has a row of it."""
    assert cleaned.searches is not None
    codes, texts = cleaned.searches
    home = np.full(len(texts), -1, np.int64)
    home[codes[::-1]] = places[::-1]
    chosen = np.flatnonzero(home >= 0)
    strays = np.flatnonzero(home[codes] != places)
    rows = np.concatenate([chosen, codes[strays]])
    table = pa.table({"search": hash_distinct(texts)[rows], "search_id": texts.take(pa.array(rows))})
    yield from split_at(SEARCHES, table, np.concatenate([home[chosen], places[strays]]))
