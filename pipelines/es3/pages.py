"""Pages of other domains on their way to lists: which items of them were engaged with, and what is asked about them (UniScale, ES3 rule 3).

Every engaged item of a page, an *anchor*, becomes a list of its own: the anchor and items of the page that nobody touched. Which of these
are similar to it, and which query it gets, is known when other partitions have answered: `pipelines.es3.steps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.transforms import PAD
from pipelines.batches import column, mix, split, to_bytes
from pipelines.counts import Counts
from pipelines.es3.queries import ASKED, own_queries
from pipelines.exchange import ITEM, Requests
from pipelines.lists import Lists, sampled, split_of
from pipelines.settings import Plan, Settings

ANCHOR, TOUCHED, ELSEWHERE = "anchor", "touched", "elsewhere"
"""Columns of rows: the engaged item of its list, an item with an engagement of any task, a row of a domain that becomes lists."""
ANCHORS, PAIRS, OWN_QUERY, PLACE = "anchors", "pairs", "own_query", "p"
SEPARATOR = "#"


def place_of(partition: int) -> int:
    """The number of a partition's pages as a partition of its own: a negative one."""
    return -partition - 1


@dataclasses.dataclass(frozen=True)
class Pages:
    """A partition's pages: `tables` of their lists, and what is asked of other partitions."""

    tables: dict[str, pa.Table]
    requests: Requests
    anchors: pa.Table

    def questions(self, place: int, partitions: int) -> Iterator[tuple[int, bytes]]:
        """The questions as pieces by the partition of their item."""
        yield from self.requests.pieces(place, partitions)
        if len(self.anchors):
            table = self.anchors.append_column("partition", pa.array(np.full(len(self.anchors), place)))
            yield from split(ANCHORS, table, column(table, "item"), partitions)


def pair_pieces(engagements: pa.Table, partitions: int) -> Iterator[tuple[int, bytes]]:
    """Engagements with the query that they came from, by the partition of their item."""
    rows = engagements.filter(pa.array(column(engagements, ASKED) != PAD)).select(["item", ASKED, "time"])
    if len(rows):
        yield from split(PAIRS, rows.rename_columns(["item", "query", "time"]), column(rows, "item"), partitions)


def _kept_pages(lists: Lists, plan: Plan, settings: Settings, log_end: int) -> tuple[np.ndarray, Counts]:
    """Which lists are pages that may give training lists, bool [L], and what became of the others."""
    window = max((task.window for task in plan.tasks.values() if task.censor), default=0)
    latest = np.maximum.reduceat(column(lists.rows, "time"), lists.starts)
    searches = column(lists.rows, "search")[lists.starts]
    left = column(lists.rows, ELSEWHERE)[lists.starts]
    reasons = {
        "not_training": split_of(lists.time, settings) != 0,
        "immature": latest + window > log_end,
        "not_sampled": ~sampled(searches, settings.sampling_rate, settings.sampling_seed),
    }
    counts: Counts = {"pages": int(left.sum())}
    for reason, mask in reasons.items():
        counts[reason] = int((left & mask).sum())
        left = left & ~mask
    return left, counts


def anchored(lists: Lists, plan: Plan, settings: Settings, log_end: int) -> tuple[Lists, np.ndarray, Counts]:
    """A list per anchor of the pages among `lists`, its number in the page from 1 on (int64 [A]), and counts.

    Unless unconverted lists are kept, an anchor needs a label of the primary task. Rows have `anchor`; `split` is that of training.
    """
    if not len(lists.lengths):
        return lists, np.zeros(0, np.int64), {}
    pages, counts = _kept_pages(lists, plan, settings, log_end)
    of_list = np.repeat(np.arange(len(lists.lengths)), lists.lengths)
    pairs = mix(column(lists.rows, "search"), column(lists.rows, "item"))
    labelled = np.flatnonzero((lists.delay >= 0).any(axis=1) & pages[of_list])
    labelled = labelled[~pd.Series(pairs[labelled]).duplicated().to_numpy()]
    counts["no_engagement"] = int(pages.sum()) - len(np.unique(of_list[labelled]))
    primary = list(plan.tasks).index(plan.spec.primary_task)
    wanted = (lists.delay[labelled, primary] >= 0) | (settings.drop_unconverted == "none")
    counts |= {"engaged_items": len(labelled), "unconverted": int((~wanted).sum())}
    anchors = labelled[wanted]
    page = of_list[anchors]
    touched = np.isin(pairs, np.append(pairs[column(lists.rows, TOUCHED)], pairs[anchors]))
    row, of_anchor = _rows_of(lists, page)
    is_anchor = row == anchors[of_anchor]
    kept = is_anchor | ~touched[row]
    rows = lists.rows.take(pa.array(row[kept])).append_column(ANCHOR, pa.array(is_anchor[kept]))
    lengths = np.bincount(of_anchor[kept], minlength=len(anchors)).astype(np.int64)
    first = np.append(True, page[1:] != page[:-1])[: len(page)]
    number = np.arange(len(page)) - np.flatnonzero(first)[np.cumsum(first) - 1] + 1 if len(page) else np.zeros(0, np.int64)
    return Lists(rows, lengths, lists.time[page], np.zeros(len(page), np.int64)), number, counts


def _rows_of(lists: Lists, page: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All rows of the lists `page` [A], one list after the other, and which of these each row belongs to. int64 [R] each."""
    lengths = lists.lengths[page]
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(lists.starts[page], lengths) + within, np.repeat(np.arange(len(page)), lengths)


def ask(tables: dict[str, pa.Table], lists: Lists, number: np.ndarray, engagements: pa.Table) -> Pages:
    """Asks for the items of the lists, and for queries where the customer has none of its own; names the lists.

    `tables` are those of `pipelines.prepare` for the lists: `rows`, `lists` and histories.
    """
    rows, about, requests = tables["rows"], tables["lists"], Requests()
    item = column(rows, "item")
    anchor = np.flatnonzero(column(rows, ANCHOR))
    own = own_queries(engagements, column(rows, "customer")[anchor], item[anchor], lists.time)
    names = [f"{name}{SEPARATOR}{place}" for name, place in zip(about.column("search_id").to_pylist(), number.tolist(), strict=True)]
    search_id = about.column_names.index("search_id")
    about = about.set_column(search_id, "search_id", pa.array(names, about.schema.field("search_id").type))
    about = about.append_column(OWN_QUERY, pa.array(own))
    requests.add(ITEM, item, np.zeros(len(item), np.int64))
    rows = rows.append_column(PLACE, pa.array(requests.places[ITEM].astype(np.int32)))
    asking = np.flatnonzero(own == PAD)
    anchors = pa.table({"item": item[anchor][asking], "time": lists.time[asking], "place": asking})
    return Pages({**tables, "rows": rows, "lists": about}, requests, anchors)


def page_tables(pages: Pages) -> Iterator[bytes]:
    """The tables of the lists as pieces."""
    yield from (to_bytes(name, table) for name, table in pages.tables.items())
