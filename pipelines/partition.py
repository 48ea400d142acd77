"""The Beam steps on one hash partition: attribution and partial counts first; then, with the counts of all, lists and records."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from cvr.elwc import encode_elwc
from cvr.records import encode
from cvr.transforms import PAD
from pipelines import statistics, write
from pipelines.aggregates import CountTable, partial_counts
from pipelines.attribution import attribute
from pipelines.batches import column, concat, from_bytes, to_bytes
from pipelines.counts import Counts
from pipelines.features import Encoder
from pipelines.lists import Lists, arrange, describe, select
from pipelines.normalise import ENGAGEMENTS, IMPRESSIONS, clean_engagements, clean_impressions
from pipelines.settings import Plan, Settings, plan_of

DELAY = "delay:"
ENCODERS = {"lists": encode, "elwc": encode_elwc}
"""By record format: feature spec and columns of lists -> one record per list."""


def _first_of(keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """Mask of the first row of each run of equal keys after sorting by keys; the last key only orders. bool [R]."""
    order = np.lexsort(tuple(reversed(keys)))
    first = np.ones(len(order), bool)
    if len(order):
        first[1:] = np.logical_or.reduce([key[order][1:] != key[order][:-1] for key in keys[:-1]])
    mask = np.zeros(len(order), bool)
    mask[order[first]] = True
    return mask


def without_duplicates(tables: dict[str, pa.Table]) -> tuple[pa.Table, pa.Table, Counts]:
    """Impressions and engagements, each once, the earliest of its kind: an impression is (search, item, position), an engagement its
    event id; engagements without an event id are all kept."""
    impressions, engagements = tables[IMPRESSIONS], tables[ENGAGEMENTS]
    shown = _first_of(tuple(column(impressions, name) for name in ("search", "item", "position", "time")))
    event_id = column(engagements, "event_id")
    done = _first_of((event_id, column(engagements, "time"))) | (event_id == PAD)
    counts = {"duplicates": {IMPRESSIONS: int((~shown).sum()), ENGAGEMENTS: int((~done).sum())}}
    return impressions.filter(pa.array(shown)), engagements.filter(pa.array(done)), counts


def _complete(tables: dict[str, pa.Table], plan: Plan) -> dict[str, pa.Table]:
    """Adds an empty table for each that a partition has no row of."""
    canonical = {"search_id": pa.string(), "customer_id": pa.string(), "item_id": pa.string(), "event": pa.string()}
    numbers = {"time": pa.int64(), "position": pa.int64()}
    nothing = pa.schema([*canonical.items(), *numbers.items()]).empty_table()
    cleaners = {IMPRESSIONS: clean_impressions, ENGAGEMENTS: clean_engagements}
    return {
        name: tables[name] if name in tables else cleaner(nothing, plan).table for name, cleaner in cleaners.items()
    }


class Attribute(beam.DoFn):
    """(partition, Arrow bytes...) -> (partition, Arrow bytes) with the delays of each task; tags `partials` and `counts`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        partition, pieces = element
        plan = plan_of(self._settings)
        impressions, engagements, counts = without_duplicates(_complete(concat(pieces), plan))
        labels = attribute(impressions, engagements, plan)
        for index, name in enumerate(plan.tasks):
            impressions = impressions.append_column(f"{DELAY}{name}", pa.array(labels.delay[:, index]))
        if plan.needs_query:
            known = np.append(column(impressions, "query"), PAD)
            engagements = engagements.append_column("query", pa.array(known[labels.credited]))
        for index, component in enumerate(plan.components):
            if not component.local:
                partial = partial_counts(component, impressions, engagements, plan)
                yield beam.pvalue.TaggedOutput("partials", (index, to_bytes("counts", partial)))
        yield beam.pvalue.TaggedOutput("counts", {**counts, "attribution": labels.counts})
        yield partition, to_bytes(IMPRESSIONS, impressions)
        yield partition, to_bytes(ENGAGEMENTS, engagements)


@functools.lru_cache(maxsize=4)
def _count_tables(pieces: tuple[tuple[int, bytes], ...]) -> dict[int, CountTable]:
    return {index: CountTable(from_bytes(data)[1]) for index, data in pieces}


@functools.lru_cache(maxsize=2)
def _item_table(pieces: tuple[tuple[int, bytes], ...]) -> pa.Table | None:
    """All items sorted by hash, each once; of several rows of an item the last one counts, in the order of file names and rows."""
    if not pieces:
        return None
    table = pa.concat_tables([from_bytes(data)[1] for _, data in sorted(pieces, key=lambda p: p[0])]).combine_chunks()
    items = column(table, "item")
    order = np.argsort(items, kind="stable")
    last = np.ones(len(order), bool)
    last[:-1] = items[order][1:] != items[order][:-1]
    return table.take(pa.array(order[last]))


class BuildLists(beam.DoFn):
    """(partition, Arrow bytes...) and the counts of all partitions -> record files; gives counts, with an entry per file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(
        self,
        element: tuple[int, Iterable[bytes]],
        totals: list[tuple[int, bytes]],
        items: list[tuple[int, bytes]],
        log_end: int,
    ) -> Iterator[Counts]:
        partition, pieces = element
        plan = plan_of(self._settings)
        tables = concat(pieces)
        impressions, engagements = tables[IMPRESSIONS], tables[ENGAGEMENTS]
        delay = np.stack([column(impressions, f"{DELAY}{name}") for name in plan.tasks], axis=1)
        end = log_end if self._settings.log_end is None else self._settings.log_end
        lists, counts = select(arrange(impressions, delay), plan, self._settings, end)
        if not len(lists.lengths):
            yield counts
            return
        found = _count_tables(tuple(sorted(totals)))
        components = {c: found[i] for i, c in enumerate(plan.components) if i in found}
        for component in plan.components:
            if component.local:
                components[component] = CountTable(partial_counts(component, impressions, engagements, plan))
        columns = Encoder(plan, lists, engagements, _item_table(tuple(items)), components).columns()
        splits = describe(lists, plan, self._settings)
        for index, (name, _, _) in enumerate(self._settings.splits()):
            if name in splits:
                splits[name]["statistics"] = statistics.as_counts(
                    statistics.of_columns(plan.layout, columns, lists.split == index)
                )
        self._write(partition, lists, ENCODERS[self._settings.record_format](plan.spec, columns), splits)
        yield {**counts, "splits": splits}

    def _write(self, partition: int, lists: Lists, records: list[bytes], splits: Counts) -> None:
        """Writes one file per split and day; lists are in time order already."""
        groups = lists.split * 10_000_000 + lists.days
        names = [name for name, _, _ in self._settings.splits()]
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            split = names[int(lists.split[rows[0]])]
            day = (datetime.date(1970, 1, 1) + datetime.timedelta(days=int(lists.days[rows[0]]))).isoformat()
            path = f"{self._settings.data_folder}/{split}/{day}/part-{partition:05d}.tfrecord.gz"
            size, sha256 = write.write_records(
                FileSystems.join(self._settings.output, path), [records[row] for row in rows]
            )
            entry = {
                "path": path,
                "day": day,
                "lists": len(rows),
                "items": int(lists.lengths[rows].sum()),
                "bytes": size,
                "sha256": sha256,
            }
            splits[split].setdefault("files", []).append(entry)
