"""What a partition of customers works out on its own: labels, search lists, histories; and what it has to ask other partitions.

The result travels as three kinds of tables: `rows` (an impression of a kept list), `lists` (one row per list) and `history/<feature>` (one
row per event of a history). Columns `q:<question>` of rows or lists say which answer is theirs, `v:<question>:<count>` hold answers that
the partition knew itself, and `i` says which item's attributes are the row's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvr.transforms import PAD
from pipelines import history
from pipelines.attribution import attribute
from pipelines.batches import column
from pipelines.counts import Counts, merge
from pipelines.duplicates import without_copies
from pipelines.es3 import elsewhere, pages, queries
from pipelines.es3.candidates import expand, with_candidates
from pipelines.exchange import ITEM, Requests, asked_rows, count_pieces, local_answers
from pipelines.lists import DELAY, Lists, arrange, select, split_of
from pipelines.normalise import CANDIDATES, ENGAGEMENTS, IMPRESSIONS, SEARCHES, clean_engagements, clean_impressions
from pipelines.settings import Plan, Question, Settings
from pipelines.slices import NEAR, OWN

ROWS, LISTS, HISTORY = "rows", "lists", "history/"
_UNUSED = ("customer", "search", "time", "is_list", "query", pages.ELSEWHERE, pages.TOUCHED, pages.ANCHOR, pages.PLACE)
"""Columns of rows that no record needs once everything was asked."""
Tables = dict[str, pa.Table]


def complete(tables: Tables, plan: Plan) -> Tables:
    """Adds an empty table for each that a partition has no row of."""
    canonical = {"search_id": pa.string(), "customer_id": pa.string(), "item_id": pa.string(), "event": pa.string()}
    numbers = {"time": pa.int64(), "position": pa.int64()}
    nothing = pa.schema([*canonical.items(), *numbers.items()]).empty_table()
    cleaners = {IMPRESSIONS: clean_impressions, ENGAGEMENTS: clean_engagements}
    return tables | {name: cleaner(nothing, plan).table for name, cleaner in cleaners.items() if name not in tables}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A partition's tables for its records, what it asks and tells others, and its counts; for ES3 also its pages of other domains
    (`feed`), the queries that were `asked` (`pipelines.es3.queries`), and pieces with those that engagements came from (`pairs`)."""

    tables: Tables
    requests: Requests
    told: list[tuple[int, bytes]]
    counts: Counts
    feed: pages.Pages | None = None
    asked: pa.Table | None = None
    pairs: Sequence[tuple[int, bytes]] = ()


def prepare(tables: Tables, plan: Plan, settings: Settings, log_end: int, sliced: bool = False) -> Prepared:
    """Everything that one partition can work out by itself, or, `sliced`, one slice of a split customer (`pipelines.slices`)."""
    found = complete(tables, plan)
    counts: Counts = {"attribution": {name: {} for name in plan.tasks}}
    if not sliced:
        found, counts = without_copies(found, plan)
    impressions, engagements = _labelled(found[IMPRESSIONS], found[ENGAGEMENTS], found.get(NEAR), plan, counts)
    together = sliced or bool(plan.es3.searchify)
    exchanged = [question for question in plan.questions if together or not question.local]
    own_events = engagements.filter(pa.array(_owned(engagements))) if OWN in engagements.column_names else engagements
    told = list(count_pieces(exchanged, impressions, own_events, plan, settings.key_partitions))
    arranged = arrange(impressions)
    if plan.es3.on:
        arranged, counts["es3"] = _widened(arranged, found.get(CANDIDATES), engagements, plan, settings)
    lists, of_lists = select(arranged, plan, settings, log_end)
    requests = Requests()
    finished: Tables = {}
    if len(lists.lengths):
        local = [question for question in plan.questions if question not in exchanged]
        finished = _finish(lists, (impressions, engagements), found[SEARCHES], local, plan)
        ask(finished, lists, exchanged, requests, plan)
    prepared = Prepared(finished, requests, told, {**counts, **of_lists})
    if plan.es3.searchify:
        return _with_pages(prepared, arranged, (impressions, engagements), found.get(SEARCHES), (plan, settings, log_end))
    return prepared


def _widened(
    lists: Lists, candidates: pa.Table | None, engagements: pa.Table, plan: Plan, settings: Settings
) -> tuple[Lists, Counts]:
    """All lists of a partition with un-exposed items and labels from elsewhere, as far as these steps are on, and their counts."""
    counts: Counts = {}
    if plan.es3.searchify:
        touched = (lists.delay >= 0).any(axis=1)
        lists = dataclasses.replace(lists, rows=lists.rows.append_column(pages.TOUCHED, pa.array(touched)))
    rows = lists.rows
    if plan.es3.unexposed_per_list:
        hidden, counts["unexposed"] = expand(candidates, lists, settings)
        rows = with_candidates(rows, hidden)
    if plan.es3.attribute_elsewhere:
        train = np.repeat(split_of(lists.time, settings) == 0, lists.lengths) & column(lists.rows, "is_list")
        samples = np.append(train, np.ones(len(rows) - len(train), bool))
        rows, counts["attribution"] = elsewhere.attribute(lists.rows, rows, samples, engagements, plan)
    return arrange(rows), counts


def _with_pages(
    prepared: Prepared, lists: Lists, events: tuple[pa.Table, pa.Table], searches: pa.Table | None, about: tuple[Plan, Settings, int]
) -> Prepared:
    """Adds the pages of other domains that become lists, and what others need for theirs; `events` are (impressions, engagements)."""
    plan, settings, _ = about
    anchored, number, counts = pages.anchored(lists, *about)
    feed = None
    if searches is not None and len(anchored.lengths):
        feed = pages.ask(_finish(anchored, events, searches, [], plan), anchored, number, events[1])
    return dataclasses.replace(
        prepared,
        feed=feed,
        asked=queries.asked_queries(events[0], plan),
        pairs=list(pages.pair_pieces(events[1], settings.key_partitions)),
        counts=merge(prepared.counts, {"es3": {"searchified": counts}}),
    )


def _owned(engagements: pa.Table) -> np.ndarray:
    """Which engagements are counted here; a slice of a split customer also holds some of its neighbours. bool [E]."""
    return column(engagements, OWN) if OWN in engagements.column_names else np.ones(len(engagements), bool)


def _labelled(
    impressions: pa.Table, engagements: pa.Table, near: pa.Table | None, plan: Plan, counts: Counts
) -> tuple[pa.Table, pa.Table]:
    """Adds the tasks' delays to impressions and, where needed, the query to engagements; counts attribution."""
    everything = impressions
    if near is not None:
        everything = pa.concat_tables([impressions.select(near.column_names), near]).combine_chunks()
    own = np.arange(len(everything)) < len(impressions)
    labels = attribute(everything, engagements, plan, (own, _owned(engagements)))
    for index, name in enumerate(plan.tasks):
        counts["attribution"][name] |= labels.counts[name]
        impressions = impressions.append_column(f"{DELAY}{name}", pa.array(labels.delay[: len(impressions), index]))
    if plan.needs_query:
        known = np.append(column(everything, "query"), PAD)
        engagements = engagements.append_column("query", pa.array(known[labels.credited]))
    if plan.es3.searchify:
        of_search = np.append(column(everything, "is_list"), False)[labels.credited]
        engagements = engagements.append_column(queries.ASKED, pa.array(np.where(of_search, column(engagements, "query"), PAD)))
    return impressions, engagements


def _finish(lists: Lists, events: tuple[pa.Table, pa.Table], searches: pa.Table, local: list[Question], plan: Plan) -> Tables:
    """The tables `rows`, `lists` and `history/...` of kept lists, given (impressions, engagements) and the questions to answer here."""
    starts = lists.starts
    place = pc.index_in(pa.array(column(lists.rows, "search")[starts]), value_set=searches.column("search").combine_chunks())
    about: dict[str, pa.Array] = {
        "search_id": searches.column("search_id").combine_chunks().take(place),
        "time": pa.array(lists.time),
        "length": pa.array(lists.lengths),
        "split": pa.array(lists.split),
    }
    customers = column(lists.rows, "customer")[starts]
    found: Tables = {}
    for feature in plan.histories:
        assert feature.history is not None
        past = history.histories(events[1], customers, lists.time, feature.history, plan)
        about[f"h:{feature.name}"] = pa.array(past.lengths)
        found[f"{HISTORY}{feature.name}"] = pa.table({"item": past.item, "action": past.action, "age": past.age})
    rows = lists.rows
    for question in local:
        for name, values in _local(question, events, plan, lists):
            if question.per_item:
                rows = rows.append_column(name, values)
            else:
                about[name] = values
    return {**found, ROWS: rows, LISTS: pa.table(about)}


def _local(question: Question, events: tuple[pa.Table, pa.Table], plan: Plan, lists: Lists) -> Iterator[tuple[str, pa.Array]]:
    """Columns with the answers to a question that needs no other partition, and `k:<question>`, -1 where there is no key to ask about."""
    number = plan.questions.index(question)
    keys, moments = asked_rows(question, lists)
    answers = local_answers(question, *events, plan, keys, moments)
    yield f"k:{number}", pa.array(np.where(keys == PAD, -1, 0).astype(np.int8))
    for index in range(answers.shape[1]):
        yield f"v:{number}:{index}", pa.array(np.ascontiguousarray(answers[:, index]))


def ask(tables: Tables, lists: Lists, questions: list[Question], requests: Requests, plan: Plan) -> None:
    """Asks the questions and for the items' attributes, and writes into the tables which answer is whose."""
    for question in questions:
        number = plan.questions.index(question)
        requests.add(number, *asked_rows(question, lists))
        name = ROWS if question.per_item else LISTS
        tables[name] = tables[name].append_column(f"q:{number}", pa.array(requests.places[number].astype(np.int32)))
    if plan.needs_items:
        items = column(lists.rows, "item")
        requests.add(ITEM, items, np.zeros(len(items), np.int64))
        tables[ROWS] = tables[ROWS].append_column("i", pa.array(requests.places[ITEM].astype(np.int32)))
    unused = [name for name in _UNUSED if name in tables[ROWS].column_names]
    tables[ROWS] = tables[ROWS].drop_columns(unused)
