"""What a partition of customers works out on its own: labels, search lists, histories; and what it has to ask other partitions.

The result travels as three kinds of tables: `rows` (an impression of a kept list), `lists` (one row per list) and `history/<feature>` (one
row per event of a history). Columns `q:<question>` of rows or lists say which answer is theirs, `v:<question>:<count>` hold answers that
the partition knew itself, and `i` says which item's attributes are the row's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cvr.transforms import PAD
from pipelines import history
from pipelines.attribution import attribute
from pipelines.batches import column, mix
from pipelines.counts import Counts
from pipelines.exchange import ITEM, Requests, asked_rows, count_pieces, local_answers
from pipelines.lists import DELAY, Lists, arrange, pick, select
from pipelines.normalise import ENGAGEMENTS, IMPRESSIONS, SEARCHES, clean_engagements, clean_impressions
from pipelines.settings import Plan, Question, Settings
from pipelines.slices import NEAR, OWN

ROWS, LISTS, HISTORY = "rows", "lists", "history/"
Tables = dict[str, pa.Table]


def _first_of(key: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mask of the earliest row of each key, the first of those at one time; bool [R]."""
    again = pd.Series(key).duplicated(keep=False).to_numpy()
    mask = ~again
    rows = np.flatnonzero(again)
    rows = rows[np.lexsort((times[rows], key[rows]))]
    mask[rows[np.append(True, key[rows][1:] != key[rows][:-1])[: len(rows)]]] = True
    return mask


def without_duplicates(tables: Tables, plan: Plan) -> tuple[Tables, Counts]:
    """Impressions and engagements, each once, the earliest of its kind: an impression is (search, item, position), an engagement its
    event id; engagements without an event id are all kept. Counts the others, engagements also by task."""
    keys: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    shown = [name for name in (IMPRESSIONS, NEAR) if name in tables]
    for name in shown:
        search, item, position = (column(tables[name], part) for part in ("search", "item", "position"))
        keys[name] = mix(mix(search, item), position)
    first = _first_of(
        np.concatenate([keys[name] for name in shown]), np.concatenate([column(tables[name], "time") for name in shown])
    )
    ends = np.cumsum([len(keys[name]) for name in shown])
    masks |= dict(zip(shown, np.split(first, ends[:-1]), strict=True))
    engagements = tables[ENGAGEMENTS]
    event_id = column(engagements, "event_id")
    masks[ENGAGEMENTS] = (event_id == PAD) | _first_of(event_id, column(engagements, "time"))
    gone = column(engagements, "event")[~masks[ENGAGEMENTS] & owned(engagements)]
    counts: Counts = {
        "duplicates": {IMPRESSIONS: int((~masks[IMPRESSIONS] & owned(tables[IMPRESSIONS])).sum()), ENGAGEMENTS: len(gone)},
        "attribution": {
            name: {"duplicate": int(np.isin(gone, plan.codes(task.events)).sum())} for name, task in plan.tasks.items()
        },
    }
    kept = {name: tables[name] if mask.all() else tables[name].filter(pa.array(mask)) for name, mask in masks.items()}
    return {**tables, **kept}, counts


def owned(table: pa.Table) -> np.ndarray:
    """Which rows are this partition's own; a slice of a split customer also holds rows that belong to its neighbours. bool [R]."""
    return column(table, OWN) if OWN in table.column_names else np.ones(len(table), bool)


def complete(tables: Tables, plan: Plan) -> Tables:
    """Adds an empty table for each that a partition has no row of."""
    canonical = {"search_id": pa.string(), "customer_id": pa.string(), "item_id": pa.string(), "event": pa.string()}
    numbers = {"time": pa.int64(), "position": pa.int64()}
    nothing = pa.schema([*canonical.items(), *numbers.items()]).empty_table()
    cleaners = {IMPRESSIONS: clean_impressions, ENGAGEMENTS: clean_engagements}
    return tables | {name: cleaner(nothing, plan).table for name, cleaner in cleaners.items() if name not in tables}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A partition's tables for its records, what it asks and tells others, and its counts."""

    tables: Tables
    requests: Requests
    told: list[tuple[int, bytes]]
    counts: Counts


def prepare(tables: Tables, plan: Plan, settings: Settings, log_end: int) -> Prepared:
    """Everything that one partition, or one slice of a split customer, can work out by itself."""
    found, counts = without_duplicates(complete(tables, plan), plan)
    impressions, engagements = _labelled(found[IMPRESSIONS], found[ENGAGEMENTS], found.get(NEAR), plan, counts)
    sliced = OWN in found[IMPRESSIONS].column_names or OWN in found[ENGAGEMENTS].column_names
    exchanged = [question for question in plan.questions if sliced or not question.local]
    own_events = _own(engagements)
    told = list(count_pieces(exchanged, _own(impressions), own_events, plan, settings.key_partitions))
    lists = arrange(impressions)
    if sliced and len(lists.lengths):
        lists = pick(lists, owned(lists.rows)[lists.starts])
    lists, of_lists = select(lists, plan, settings, log_end)
    requests = Requests()
    finished: Tables = {}
    if len(lists.lengths):
        finished = _finish(lists, impressions, engagements, found[SEARCHES], plan)
        _ask(finished, lists, exchanged, requests, plan)
    return Prepared(finished, requests, told, {**counts, **of_lists})


def _own(table: pa.Table) -> pa.Table:
    return table.filter(table.column(OWN)) if OWN in table.column_names else table


def _labelled(
    impressions: pa.Table, engagements: pa.Table, near: pa.Table | None, plan: Plan, counts: Counts
) -> tuple[pa.Table, pa.Table]:
    """Adds the tasks' delays to impressions and, where needed, the query to engagements; counts attribution."""
    everything = impressions
    if near is not None:
        everything = pa.concat_tables([impressions.select(near.column_names), near]).combine_chunks()
    labels = attribute(everything, engagements, plan, (owned(everything), owned(engagements)))
    for index, name in enumerate(plan.tasks):
        counts["attribution"][name] |= labels.counts[name]
        impressions = impressions.append_column(f"{DELAY}{name}", pa.array(labels.delay[: len(impressions), index]))
    if plan.needs_query:
        known = np.append(column(everything, "query"), PAD)
        engagements = engagements.append_column("query", pa.array(known[labels.credited]))
    return impressions, engagements


def _finish(lists: Lists, impressions: pa.Table, engagements: pa.Table, searches: pa.Table, plan: Plan) -> Tables:
    """The tables `rows`, `lists` and `history/...` of kept lists."""
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
        events = history.histories(engagements, customers, lists.time, feature.history, plan)
        about[f"h:{feature.name}"] = pa.array(events.lengths)
        found[f"{HISTORY}{feature.name}"] = pa.table({"item": events.item, "action": events.action, "age": events.age})
    rows = lists.rows
    for number, question in enumerate(plan.questions):
        if question.local and OWN not in rows.column_names:
            for name, values in _local(number, question, impressions, engagements, plan, lists):
                if question.per_item:
                    rows = rows.append_column(name, values)
                else:
                    about[name] = values
    return {**found, ROWS: rows, LISTS: pa.table(about)}


def _local(
    number: int, question: Question, impressions: pa.Table, engagements: pa.Table, plan: Plan, lists: Lists
) -> Iterator[tuple[str, pa.Array]]:
    """Columns with the answers to a question that needs no other partition, and `k:<question>`, -1 where there is no key to ask about."""
    keys, moments = asked_rows(question, lists)
    answers = local_answers(question, impressions, engagements, plan, keys, moments)
    yield f"k:{number}", pa.array(np.where(keys == PAD, -1, 0).astype(np.int8))
    for index in range(answers.shape[1]):
        yield f"v:{number}:{index}", pa.array(np.ascontiguousarray(answers[:, index]))


def _ask(tables: Tables, lists: Lists, questions: list[Question], requests: Requests, plan: Plan) -> None:
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
    unused = [name for name in ("customer", "search", "time", "is_list", "query", OWN) if name in tables[ROWS].column_names]
    tables[ROWS] = tables[ROWS].drop_columns(unused)
