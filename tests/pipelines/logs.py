"""Tiny canonical logs for the tests of pipelines: rows written by hand, as tables of the pipeline or as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cvr.records import parse
from cvr.schema import parse_spec
from pipelines.normalise import clean_engagements, clean_impressions
from pipelines.settings import Plan, Settings

T0 = 1_767_225_600_000
"""2026-01-01T00:00:00Z in ms."""
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

SPEC = """
dataset: tiny
tasks:
  click: {events: [click], window: 1h}
  purchase: {events: [purchase], window: 1d, primary: true}
features:
  price: {kind: numerical, level: item, from: impression.price}
  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 8, dim: 2}}
  query: {kind: text, level: context, from: impression.query, ngrams: [2], embedding: {buckets: 64, dim: 2}}
  title: {kind: text, level: item, from: item.title, ngrams: [3], embedding: {buckets: 64, dim: 2}}
  stock: {kind: numerical, level: item, from: item.stock}
  recent: {kind: sequence, level: context, history: {events: [click, purchase], length: 3}, embedding: {buckets: 64, dim: 2}}
  item_clicks: {kind: numerical, level: item, aggregate: {by: [item], event: click, bucket: 1ms}}
  item_rate: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression, prior: 2, bucket: 1ms}}
  query_clicks: {kind: numerical, level: context, aggregate: {by: [query], event: click, bucket: 1ms}}
  own_clicks: {kind: numerical, level: item, aggregate: {by: [customer, item], event: click, bucket: 1ms}}
"""

IMPRESSION_TYPES = {
    "search_id": pa.string(),
    "time": pa.int64(),
    "customer_id": pa.string(),
    "item_id": pa.string(),
    "position": pa.int32(),
}
ENGAGEMENT_TYPES = {
    "time": pa.int64(), "customer_id": pa.string(), "item_id": pa.string(), "event": pa.string(), "search_id": pa.string(),
    "event_id": pa.string(),
}  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Rows as a table that has at least the typed columns."""
    extra = sorted({name for row in rows for name in row} - set(types))
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()}
    return pa.table(columns | {name: pa.array([row.get(name) for row in rows]) for name in extra})


def plan(spec: str = SPEC, popularity_bucket: int | None = HOUR) -> Plan:
    return Plan(parse_spec(spec), popularity_bucket)


def impressions(rows: Sequence[Mapping[str, Any]], of: Plan) -> pa.Table:
    """Rows as the pipeline carries impressions."""
    return clean_impressions(table(rows, IMPRESSION_TYPES), of).table


def engagements(rows: Sequence[Mapping[str, Any]], of: Plan) -> pa.Table:
    """Rows as the pipeline carries engagements."""
    return clean_engagements(table(rows, ENGAGEMENT_TYPES), of).table


def shown(
    search: str, time: int, items: Sequence[str], customer: str | None = "u", **extra: Any
) -> list[dict[str, Any]]:
    """The impressions of one search, `time` ms after T0."""
    row = {"search_id": search, "time": T0 + time, "customer_id": customer, **extra}
    return [{**row, "item_id": item, "position": place + 1} for place, item in enumerate(items)]


def done(event: str, time: int, item: str, customer: str | None = "u", **extra: Any) -> dict[str, Any]:
    """One engagement, `time` ms after T0."""
    return {"event": event, "time": T0 + time, "item_id": item, "customer_id": customer, **extra}


ITEMS = [
    {"item_id": "a", "title": "red shoe", "stock": 3.0},
    {"item_id": "b", "title": "blue shoe", "stock": None},
    {"item_id": "c", "title": None, "stock": 0.0},
]


def small_log() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Forty searches of five customers over four days, with clicks and purchases of known places; the last day is immature."""
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for number in range(40):
        time, customer = number * 2 * HOUR + 7, f"u{number % 5}"
        items = [["a", "b", "c"], ["c", "a", "d"], ["b", "d", "a", "c"]][number % 3]
        rows += shown(
            f"s{number}",
            time,
            items,
            customer,
            price=float(number),
            device="phone" if number % 2 else None,
            query=f"q{number % 4}",
        )
        events.append(done("click", time + MINUTE, items[0], customer, search_id=f"s{number}", event_id=f"c{number}"))
        if number % 2 == 0:
            events.append(done("purchase", time + 3 * HOUR, items[0], customer, event_id=f"p{number}"))
    return rows, events


def write_log(
    folder: Path, rows: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]], items: Sequence[Any] = ITEMS
) -> Path:
    """Writes a canonical log in Parquet."""
    item_types = {"item_id": pa.string(), "title": pa.string(), "stock": pa.float64()}
    for name, content in (
        ("impressions", table(rows, IMPRESSION_TYPES)),
        ("engagements", table(events, ENGAGEMENT_TYPES)),
        ("items", table(items, item_types)),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(content, folder / name / "part.parquet")
    return folder


def write_jsonl(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes one table of a canonical log as JSON lines."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / name / "part.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(log: Path, output: Path, spec: str = SPEC, **changes: Any) -> Settings:
    """A build of a tiny canonical log; the test split is the third day by default."""
    fields = {"test_from": T0 + 2 * DAY, "partitions": 3, "drop_unconverted": "none", **changes}
    return Settings(source="canonical", input=str(log), output=str(output), spec_text=spec, **fields)


def read_split(output: Path, split: str) -> dict[str, np.ndarray]:
    """All records of a published split, decoded, sorted by (time, search id); `offsets` [L + 1] cut the item columns into lists."""
    import tensorflow as tf

    from cvr.manifest import load_manifest

    manifest = load_manifest(output)
    records: list[bytes] = []
    for file in manifest.splits[split].files:
        records += list(tf.data.TFRecordDataset(str(output / file.path), compression_type="GZIP").as_numpy_iterator())
    spec = manifest.spec()
    keys = parse(spec, tf.constant(records))
    order = np.lexsort((keys["search_id"].numpy().astype("S"), keys["time"].numpy()))
    found = {name: value.numpy() for name, value in parse(spec, tf.constant([records[i] for i in order])).items()}
    return {**found, "offsets": np.concatenate([[0], np.cumsum(found["list_size"])])}
