"""The Beam steps that make lists of pages: items and frequent queries come from the partitions of items, then queries and negatives are
chosen, and the lists ask for their features like all others.

    pages of customer partitions --+-- questions, pairs --> by item -> AnswerPages --+--> by place -> Searchify -> tables, exchange, counts
                                   +-- lists ------------------------------------------+                 ^
    queries of all partitions -> earliest of each ------------------------------------------------------+ (side input)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.transforms import PAD
from pipelines.batches import coded, column, concat, from_bytes, split_at, to_bytes
from pipelines.counts import Counts
from pipelines.es3 import pages, queries, similarity
from pipelines.exchange import ITEMS, REQUESTS, Requests, asked_items, last_of_each
from pipelines.lists import DELAY, Lists
from pipelines.prepare import HISTORY, LISTS, ROWS, Tables, ask
from pipelines.settings import Plan, Settings, plan_of
from pipelines.spill import load, spilled

EXCHANGE, COUNTS = "exchange", "counts"
FREQUENT = "frequent"


class AnswerPages(beam.DoFn):
    """(key partition, pieces) -> (place of pages, bytes): their items, and the most frequent query of each anchor before its time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        yield from spilled(_answers(concat(map(load, element[1]))), self._settings.spill_folder)


def _answers(tables: Tables) -> Iterator[tuple[int, bytes]]:
    if REQUESTS in tables and ITEMS in tables:
        yield from asked_items(tables[REQUESTS], last_of_each(tables[ITEMS]))
    if pages.ANCHORS in tables and pages.PAIRS in tables:
        anchors = tables[pages.ANCHORS]
        found = queries.frequent_queries(tables[pages.PAIRS], column(anchors, "item"), column(anchors, "time"))
        known = np.flatnonzero(found != PAD)
        answers = pa.table({"place": column(anchors, "place")[known], "query": found[known]})
        yield from split_at(FREQUENT, answers, column(anchors, "partition")[known])


class Searchify(beam.DoFn):
    """(place of pages, tables and answers) -> (place, tables of lists with their queries); tags `exchange` and `counts`.

    `known` are all queries of the log as `queries.earliest` gives them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def process(self, element: tuple[int, Iterable[bytes]], known: bytes) -> Iterator[Any]:
        place, plan, folder = element[0], plan_of(self._settings), self._settings.spill_folder
        tables = concat(map(load, element[1]))
        if ROWS not in tables:
            return
        found, requests, counts = searchified(tables, from_bytes(known)[1] if known else None, plan)
        yield beam.pvalue.TaggedOutput(COUNTS, {"es3": {"searchified": counts}})
        if not found:
            return
        asked = requests.pieces(place, self._settings.key_partitions)
        yield from (beam.pvalue.TaggedOutput(EXCHANGE, piece) for piece in spilled(asked, folder))
        yield from spilled(((place, to_bytes(name, table)) for name, table in found.items()), folder)


def searchified(tables: Tables, known: pa.Table | None, plan: Plan) -> tuple[Tables, Requests, Counts]:
    """The tables of a place's lists with query and negatives chosen, what they ask, and counts; no tables where no list is left."""
    texts = _ItemTexts(tables[ROWS], tables.get(ITEMS))
    query, counts = _queries(tables, texts, known, plan)
    of_list = np.repeat(np.arange(len(query)), column(tables[LISTS], "length"))
    chosen = _negatives(tables[ROWS], of_list, texts, plan)
    alone = np.bincount(of_list[chosen], minlength=len(query)) < 2
    kept = (query != PAD) & ~alone
    counts |= {"alone": int((alone & (query != PAD)).sum()), "lists": int(kept.sum())}
    if not kept.any():
        return {}, Requests(), counts
    chosen &= kept[of_list]
    found = _picked(tables, chosen, kept, of_list)
    found[ROWS] = _with_queries(found[ROWS], np.repeat(query[kept], column(found[LISTS], "length")), known)
    counts |= {"items": len(found[ROWS])} | {
        f"positives:{name}": int((column(found[ROWS], f"{DELAY}{name}") >= 0).sum()) for name in plan.tasks
    }
    about = found[LISTS]
    lists = Lists(found[ROWS], *(column(about, name) for name in ("length", "time", "split")))
    requests = Requests()
    ask(found, lists, list(plan.questions), requests, plan)
    return found, requests, counts


class _ItemTexts:
    """Texts of the items of rows; each distinct one is embedded once."""

    def __init__(self, rows: pa.Table, items: pa.Table | None) -> None:
        self._asked, self._items = column(rows, pages.PLACE), items

    def codes(self, name: str) -> tuple[np.ndarray, list[str | None]]:
        """A column of the items as (codes of the rows int64 [N], distinct texts, the last one None: no text)."""
        if self._items is None or not len(self._items):
            return np.zeros(len(self._asked), np.int64), [None]
        codes, distinct = coded(self._items, f"s:{name}")
        row = pd.Index(column(self._items, "place")).get_indexer(self._asked)
        return np.append(codes, len(distinct))[row], [*distinct.to_pylist(), None]


def _queries(tables: Tables, texts: _ItemTexts, known: pa.Table | None, plan: Plan) -> tuple[np.ndarray, Counts]:
    """The query of each list, PAD without one (int64 [L]), and how many came by which tier."""
    about = tables[LISTS]
    own = column(about, pages.OWN_QUERY)
    frequent = np.full(len(own), PAD, np.int64)
    if FREQUENT in tables:
        frequent[column(tables[FREQUENT], "place")] = column(tables[FREQUENT], "query")
    query = np.where(own != PAD, own, frequent)
    left = np.flatnonzero(query == PAD)
    if known is not None and len(left):
        codes, titles = texts.codes(plan.es3.item_title)
        anchor = np.flatnonzero(column(tables[ROWS], pages.ANCHOR))[left]
        distinct, asked = coded(known, "s:query")
        of_titles, of_queries = similarity.embed(titles)[codes[anchor]], similarity.embed([*asked.to_pylist(), None])[distinct]
        found = similarity.nearest(of_titles, column(about, "time")[left], of_queries, column(known, "time"))
        query[left] = np.append(column(known, "query"), PAD)[found]
    tiers = (own != PAD, (own == PAD) & (frequent != PAD), (own == PAD) & (frequent == PAD) & (query != PAD), query == PAD)
    return query, {f"query_{name}": int(mask.sum()) for name, mask in zip((*queries.TIERS, "none"), tiers, strict=True)}


def _negatives(rows: pa.Table, of_list: np.ndarray, texts: _ItemTexts, plan: Plan) -> np.ndarray:
    """Which rows stay: every anchor and the items most similar to it, at most `feed_negatives` of them. bool [N].

    An item must be at least `least_similarity` similar, and have something in common with the anchor; of equally similar ones the smaller
    position, then the smaller hash of the item, comes first.
    """
    codes, distinct = texts.codes(plan.es3.similarity_column)
    is_anchor = column(rows, pages.ANCHOR)
    anchor_code = np.empty(int(of_list.max()) + 1, np.int64)
    anchor_code[of_list[is_anchor]] = codes[is_anchor]
    alike = similarity.similarities(similarity.embed(distinct), codes, anchor_code[of_list])
    fits = ~is_anchor & (alike > 0) & (alike >= plan.es3.least_similarity)
    order = np.lexsort((column(rows, "item"), column(rows, "position"), -alike, ~fits, of_list))
    starts = np.searchsorted(of_list, np.arange(len(anchor_code)))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts[of_list[order]]
    return is_anchor | (fits & (rank < plan.es3.feed_negatives))


def _picked(tables: Tables, rows: np.ndarray, lists: np.ndarray, of_list: np.ndarray) -> Tables:
    """The tables of some lists (mask [L]) with some of their rows (mask [N])."""
    found: Tables = {ROWS: tables[ROWS].filter(pa.array(rows))}
    about = tables[LISTS].filter(pa.array(lists))
    lengths = np.bincount(of_list[rows], minlength=len(lists))[lists]
    about = about.set_column(about.column_names.index("length"), "length", pa.array(lengths.astype(np.int64)))
    found[LISTS] = about.drop_columns([pages.OWN_QUERY])
    for name, table in tables.items():
        if name.startswith(HISTORY):
            events = column(tables[LISTS], f"h:{name.removeprefix(HISTORY)}")
            found[name] = table.filter(pa.array(np.repeat(lists, events)))
    return found


def _with_queries(rows: pa.Table, query: np.ndarray, known: pa.Table | None) -> pa.Table:
    """Rows with the columns of their queries [N]: the hash, the text and what else belongs to a query."""
    assert known is not None
    place = pd.Index(column(known, "query")).get_indexer(query)
    for name in known.column_names:
        if name not in ("time", "search"):
            values = known.column(name).take(pa.array(place))
            rows = rows.set_column(rows.column_names.index(name), name, values)
    return rows
