"""Tiny specs, random search lists and published list folders for tests: a second to make, every kind of feature in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvr import records, transforms
from cvr.data import Batch, Budget, assemble
from cvr.manifest import Manifest, Moments, RecordFile, Split, publish_json
from cvr.schema import FeatureSpec, parse_spec

SPEC = """
dataset: tiny
tasks:
  purchase: {events: [purchase], window: 1d, primary: true}
  click: {events: [click], window: 1h}
features:
  query: {kind: text, level: context, from: impression.query, ngrams: [2, 3], embedding: {buckets: 50, dim: 3}}
  device: {kind: categorical, level: context, from: impression.device, vocabulary: [phone, tablet], embedding: {buckets: 2, dim: 2}}
  hour: {kind: numerical, level: context, from: impression.hour}
  visits: {kind: numerical, level: context, derive: {op: history_length, history: recent}}
  item: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 20, dim: 2}}
  price: {kind: numerical, level: item, from: item.price}
  rate: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression}}
  tags: {kind: categorical, level: item, from: item.tags, separator: "|", embedding: {buckets: 30, dim: 2}}
  recent:
    kind: sequence
    level: context
    history: {events: [click, purchase], length: 4}
    embedding: {buckets: 20, dim: 2}
    encoder: target_attention
  bought: {kind: sequence, level: context, history: {events: [purchase], length: 3}, embedding: {buckets: 20, dim: 2}}
  touched: {kind: numerical, level: item, derive: {op: history_count, history: recent}}
  to_last: {kind: numerical, level: item, derive: {op: offset_to_last, history: recent}}
  offset: {kind: categorical, level: item, derive: {op: offset_to_last, history: recent}, embedding: {buckets: 8, dim: 2}}
  price_rank: {kind: numerical, level: item, derive: {op: list_rank, feature: price}, transforms: [zscore]}
"""
LEAN = """
dataset: lean
tasks:
  purchase: {events: [purchase], window: 1d, primary: true}
  click: {events: [click], window: 1h}
features:
  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 5, dim: 2}}
  price: {kind: numerical, level: item, from: item.price}
  tags: {kind: categorical, level: item, from: item.tags, separator: "|", embedding: {buckets: 30, dim: 2}}
  recent: {kind: sequence, level: context, history: {events: [click, purchase], length: 4}, embedding: {buckets: 20, dim: 2}}
  touched: {kind: numerical, level: item, derive: {op: history_count, history: recent}}
"""
"""Fewer features, for tests that train: tracing takes most of their time."""
FIRST_TIME = 1_767_225_600_000
"""2026-01-01T00:00:00Z in ms."""
DAY = 86_400_000


def tiny_spec(text: str = SPEC) -> FeatureSpec:
    return parse_spec(text)


class _Source:
    """Random values with missing, unseen and empty ones among them."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def ids(self, count: int, top: int = 2**62) -> np.ndarray:
        reserved = self.random.integers(transforms.UNSEEN, transforms.FIRST_ID - 1, count)
        return np.where(self.random.random(count) < 0.1, reserved, self.random.integers(4, top, count))

    def numbers(self, rows: int, columns: int) -> np.ndarray:
        values = np.round(self.random.lognormal(1.0, 1.0, (rows, columns)), 1)
        chance = self.random.random((rows, columns))
        return np.where(chance < 0.1, np.nan, np.where(chance < 0.2, transforms.UNSEEN_VALUE, values)).astype(
            np.float32
        )

    def bag(self, rows: int, top: int) -> records.Bag:
        counts = self.random.integers(1, 5, rows)
        return records.Bag(self.ids(int(counts.sum()), top), counts)

    def history(self, items: Sequence[np.ndarray], length: int, events: int) -> records.Histories:
        """Per list up to `length` events, about half of them on items of the list, some histories empty and one in ten unseen."""
        parts: dict[str, list[np.ndarray]] = {"item": [], "action": [], "age": []}
        lengths = []
        for shown in items:
            unseen = self.random.random() < 0.1
            count = 1 if unseen else int(self.random.integers(0, length + 1))
            touched = np.where(
                self.random.random(count) < 0.5, self.random.choice(shown, count), self.random.integers(4, 12, count)
            )
            parts["item"].append(np.full(1, transforms.UNSEEN) if unseen else touched)
            parts["action"].append(
                np.full(1, transforms.UNSEEN) if unseen else self.random.integers(4, 4 + events, count)
            )
            parts["age"].append(np.zeros(1) if unseen else np.sort(self.random.integers(1, 10_000, count)))
            lengths.append(count)
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        return records.Histories(joined["item"], joined["action"], joined["age"].astype(np.float32), np.array(lengths))


def random_columns(spec: FeatureSpec, lists: int, seed: int = 0, longest: int = 6) -> records.ListColumns:
    """Lists of 1 to `longest` items an hour apart, ids `<seed>-<row>`; items that repeat across lists, distinct within one."""
    source, layout = _Source(seed), records.Layout.of(spec)
    lengths = source.random.integers(1, longest + 1, lists)
    total, tasks = int(lengths.sum()), len(layout.tasks)
    items = [source.random.choice(np.arange(1000, 1000 + 4 * longest), n, replace=False) for n in lengths]
    labels = (source.random.random((total, tasks)) < 0.3).astype(np.int64)
    rows = {"context": lists, "item": total}
    histories = {
        f.name: source.history(items, f.history.length, len(f.history.events))
        for f in spec.select(kind="sequence")
        if f.history
    }
    return records.ListColumns(
        search_id=np.array([f"{seed}-{row}" for row in range(lists)], object),
        time=FIRST_TIME + 3_600_000 * np.arange(lists),
        lengths=lengths,
        item=np.concatenate(items),
        position=np.concatenate([np.arange(1, n + 1) for n in lengths]),
        labels=labels,
        delay=np.where(labels > 0, source.random.integers(0, DAY, (total, tasks)), -1),
        popularity=source.random.integers(0, 9, total).astype(np.float32),
        context_num=source.numbers(lists, len(layout.context_num)),
        item_num=source.numbers(total, len(layout.item_num)),
        cat={f.name: source.ids(rows[f.level]) for f in spec.select(kind="categorical", stored=True) if not f.ragged},
        bags={f.name: source.bag(rows[f.level], 2**31 if f.kind == "text" else 2**62) for f in spec.select(stored=True) if f.ragged},
        sequences=histories,
    )


def batch_of(spec: FeatureSpec, columns: records.ListColumns, budget: Budget | None = None) -> Batch:
    """Columns as a batch, by way of their records."""
    return assemble(spec, records.parse(spec, tf.constant(records.encode(spec, columns))), budget)


def moments(values: np.ndarray) -> Moments:
    """Statistics of one numerical column as a pipeline would put them into the manifest."""
    present = values[np.isfinite(values)].astype(np.float64)
    logs = np.sign(present) * np.log1p(np.abs(present))
    return Moments(
        count=len(present),
        missing=int(np.isnan(values).sum()),
        unseen=int(np.isneginf(values).sum()),
        total=present.sum(),
        total_squares=(present**2).sum(),
        log_total=logs.sum(),
        log_total_squares=(logs**2).sum(),
        minimum=present.min(initial=np.inf) if len(present) else None,
        maximum=present.max(initial=-np.inf) if len(present) else None,
    )


def _write_file(folder: Path, path: str, spec: FeatureSpec, columns: records.ListColumns) -> RecordFile:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(target), options="GZIP") as writer:
        for record in records.encode(spec, columns):
            writer.write(record)
    content = target.read_bytes()
    return RecordFile(
        path=path,
        day="2026-01-01",
        lists=len(columns.lengths),
        items=int(columns.lengths.sum()),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _split(spec: FeatureSpec, files: list[RecordFile], parts: Sequence[records.ListColumns]) -> Split:
    layout, labels = records.Layout.of(spec), np.concatenate([part.labels for part in parts])
    statistics = {}
    for names, key in ((layout.context_num, "context_num"), (layout.item_num, "item_num")):
        values = np.concatenate([getattr(part, key) for part in parts])
        statistics |= {name: moments(values[:, place]) for place, name in enumerate(names)}
    return Split(
        files=files,
        lists=sum(file.lists for file in files),
        items=sum(file.items for file in files),
        max_list_size=max(int(part.lengths.max()) for part in parts),
        labels={task: int(labels[:, place].sum()) for place, task in enumerate(layout.tasks)},
        statistics=statistics,
    )


def write_lists(folder: Path, splits: Mapping[str, Sequence[records.ListColumns]], text: str = SPEC) -> Manifest:
    """Publishes a folder of list records: one gzip file per member of each split, and the manifest."""
    spec, made = parse_spec(text), {}
    for name, parts in splits.items():
        files = [
            _write_file(folder, f"data/{name}/2026-01-01/part-{i}.tfrecord.gz", spec, part)
            for i, part in enumerate(parts)
        ]
        made[name] = _split(spec, files, parts)
    manifest = Manifest(
        dataset=spec.dataset,
        source="test",
        created="2026-01-08T00:00:00+00:00",
        spec_fingerprint=spec.fingerprint,
        spec_text=text,
        splits=made,
    )
    folder.mkdir(parents=True, exist_ok=True)
    publish_json(folder / "manifest.json", manifest)
    return manifest
