"""Small logs for the steps of ES3, built in memory, and their records as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvr.records import decode
from cvr.transforms import hash_strings
from pipelines.es3.options import EntireSpace
from pipelines.settings import plan_of
from tests.pipelines.logs import DAY, T0, shown
from tests.pipelines.steps import Built, Log, Rows, run, steps_settings

SPEC = """
dataset: tiny
tasks:
  click: {events: [click], window: 1h, credit: CREDIT}
  purchase: {events: [purchase], window: 1d, credit: CREDIT, primary: true}
features:
  domain: {kind: categorical, level: context, from: impression.domain, vocabulary: [search, feed], embedding: {buckets: 2, dim: 2}}
  exposure: {kind: categorical, level: item, from: impression.exposure, vocabulary: [exposed, unexposed], embedding: {buckets: 2, dim: 2}}
  price: {kind: numerical, level: item, from: impression.price}
  rank: {kind: numerical, level: item, from: impression.position}
  place: {kind: categorical, level: item, from: impression.position, embedding: {buckets: 8, dim: 2}}
  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 8, dim: 2}}
  query: {kind: categorical, level: context, from: impression.query, embedding: {buckets: 8, dim: 2}}
  words: {kind: text, level: context, from: impression.query, ngrams: [2], embedding: {buckets: 64, dim: 2}}
  topic: {kind: categorical, level: context, from: impression.topic, embedding: {buckets: 8, dim: 2}}
  title: {kind: text, level: item, from: item.title, ngrams: [3], embedding: {buckets: 64, dim: 2}}
  recent: {kind: sequence, level: context, history: {events: [click, purchase], length: 3}, embedding: {buckets: 64, dim: 2}}
  item_rate: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression, prior: 2, bucket: 1ms}}
  query_clicks: {kind: numerical, level: context, aggregate: {by: [query], event: click, bucket: 1ms}}
  pair_clicks: {kind: numerical, level: item, aggregate: {by: [query, item], event: click, bucket: 1ms}}
  own_clicks: {kind: numerical, level: item, aggregate: {by: [customer, item], event: click, bucket: 1ms}}
  own_query_clicks: {kind: numerical, level: context, aggregate: {by: [customer, query], event: click, bucket: 1ms}}
"""
"""Marks, places, texts, and aggregates by every kind of key."""

ITEMS = [
    {"item_id": "a", "title": "red running shoe", "kind": "shoe"},
    {"item_id": "b", "title": "blue running shoe", "kind": "shoe"},
    {"item_id": "c", "title": "red shoe lace", "kind": "lace"},
    {"item_id": "d", "title": "zip", "kind": "zip"},
    {"item_id": "e", "title": None, "kind": "shoe"},
]
NAMES = dict(zip(hash_strings([row["item_id"] for row in ITEMS]).numpy().tolist(), "abcde", strict=True))
LOG_END = T0 + 30 * DAY


def built(
    rows: Rows, events: Rows, candidates: Rows = (), credit: str = "last", test_from: int | None = T0 + 10 * DAY, **flags: Any
) -> Built:
    """A build of a small log; flags of `EntireSpace` and of `Settings`."""
    fields = {name: flags.pop(name) for name in list(flags) if name in EntireSpace.__dataclass_fields__}
    settings = steps_settings(
        SPEC.replace("CREDIT", credit), es3=EntireSpace(**fields), test_from=test_from, **{"log_end": LOG_END, **flags}
    )
    full = [{"domain": None, "query": None, "topic": None, "device": None, "price": 1.0, **row} for row in rows]
    return run(Log.of(full, [{"domain": None, **event} for event in events], ITEMS, candidates), settings)


def search(name: str, time: int, items: str, customer: str | None = "u", query: str | None = "q", **extra: Any) -> list[dict[str, Any]]:
    """A search of items that are letters."""
    return shown(name, time, list(items), customer, query=query, **extra)


def feed(name: str, time: int, items: str, customer: str | None = "u", **extra: Any) -> list[dict[str, Any]]:
    """A feed page."""
    return shown(name, time, list(items), customer, domain="feed", **extra)


def had(name: str, items: str, customer: str | None = "u", **extra: Any) -> list[dict[str, Any]]:
    """Un-exposed candidates of a search."""
    return [{"search_id": name, "customer_id": customer, "item_id": item, "price": 2.0, **extra} for item in items]


def described(found: Built) -> dict[str, list[dict[str, Any]]]:
    """The items of every record, by search id: letter, position, exposure, price, delays of the tasks (None: no label)."""
    spec = plan_of(found.settings).spec
    exposures = dict(zip(hash_strings(["exposed", "unexposed"]).numpy().tolist(), ("exposed", "unexposed"), strict=True))
    lists: dict[str, list[dict[str, Any]]] = {}
    for (_, name), record in found.records.items():
        columns = decode(spec, [record])
        numbers = [feature.name for feature in spec.select(kind="numerical", level="item", stored=True)]
        lists[name] = [
            {
                "item": NAMES[int(columns.item[row])],
                "position": int(columns.position[row]),
                "exposure": exposures[int(columns.cat["exposure"][row])],
                **{number: float(columns.item_num[row, place]) for place, number in enumerate(numbers)},
                **{task: int(delay) if delay >= 0 else None for task, delay in zip(spec.task_names, columns.delay[row], strict=True)},
            }
            for row in range(len(columns.item))
        ]
        assert (columns.labels == (columns.delay >= 0)).all()
    return lists


def labels(found: Built, task: str) -> dict[str, int]:
    """`search:item` -> delay of all items with the task's label."""
    lists = described(found)
    return {f"{name}:{row['item']}": row[task] for name, rows in lists.items() for row in rows if row[task] is not None}


def context(found: Built, name: str) -> dict[str, Any]:
    """Values of a list's context features: ids of categoricals and numbers by name."""
    spec = plan_of(found.settings).spec
    (record,) = [record for (_, search_id), record in found.records.items() if search_id == name]
    columns = decode(spec, [record])
    numbers = spec.select(kind="numerical", level="context", stored=True)
    values = {feature.name: float(value) for feature, value in zip(numbers, columns.context_num[0], strict=True)}
    return values | {feature.name: int(columns.cat[feature.name][0]) for feature in spec.select(kind="categorical", level="context")}


def hashed(text: str) -> int:
    """The id of a text."""
    return int(np.asarray(hash_strings([text]).numpy())[0])
