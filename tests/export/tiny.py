"""A tiny run and its search lists for the export tests: seconds to make, every kind of feature in it."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvr import records, transforms
from cvr.data import dummy_batch
from cvr.manifest import Manifest, RecordFile, Split, publish_json
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.runs import RUN_FILE, SPEC_FILE, Run, load_run
from cvr.schema import FeatureSpec, parse_spec

SPEC = """
dataset: tiny
tasks:
  purchase: {events: [purchase], window: 1d, primary: true}
  click: {events: [click], window: 1h}
features:
  query: {kind: text, level: context, from: impression.query, ngrams: [2, 3], embedding: {buckets: 50, dim: 3}}
  device: {kind: categorical, level: context, from: impression.device, vocabulary: [phone, tablet], embedding: {buckets: 10, dim: 2}}
  hour: {kind: numerical, level: context, from: impression.hour}
  item: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 20, dim: 2}}
  price: {kind: numerical, level: item, from: item.price}
  rate: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression}}
  tags: {kind: categorical, level: item, from: item.tags, separator: "|", embedding: {buckets: 30, dim: 2}}
  title: {kind: text, level: item, from: item.title, ngrams: [3], embedding: {buckets: 50, dim: 2}}
  recent: {kind: sequence, level: context, history: {events: [click, purchase], length: 4}, embedding: {buckets: 20, dim: 2}}
  touched: {kind: numerical, level: item, derive: {op: history_count, history: recent}}
  to_last: {kind: numerical, level: item, derive: {op: offset_to_last, history: recent}}
  above: {kind: numerical, level: item, derive: {op: diff_above, feature: price}}
  price_rank: {kind: numerical, level: item, derive: {op: list_rank, feature: price}}
"""
BACKBONE = {"cross_width": 8, "deep_width": 8, "cross_layers": 1, "deep_layers": 2}
CONFIG = RankerConfig(backbone="dcnv2", backbone_config=BACKBONE, experts=2, expert_width=8, tower_width=4, seed=3)


def spec() -> FeatureSpec:
    return parse_spec(SPEC)


def make_run(folder: Path, text: str = SPEC) -> tuple[Ranker, Run]:
    """A finished run of a ranker whose random tables are large enough that every input moves the logits."""
    chosen = parse_spec(text)
    ranker = build_ranker(chosen, CONFIG, dummy_batch(chosen))
    source = np.random.default_rng(1)
    for variable in ranker.trainable_variables:
        if "table" in variable.name or "empty" in variable.name:
            variable.assign(source.normal(0.0, 1.0, variable.shape))
    folder.mkdir(parents=True)
    prefix = tf.train.Checkpoint(model=ranker).save(str(folder / "weights"))
    (folder / SPEC_FILE).write_text(text, encoding="utf-8")
    model = dataclasses.asdict(CONFIG)
    publish_json(folder / RUN_FILE, {"status": "finished", "model": model, "checkpoint": Path(prefix).name, "data": "0"})
    return ranker, load_run(folder)


def make_columns(lists: int = 12, seed: int = 0) -> records.ListColumns:
    """Lists of 1 to 9 items with missing and unseen values, empty histories and an unseen one."""
    source = np.random.default_rng(seed)
    layout = records.Layout.of(spec())
    lengths = source.integers(1, 10, lists)
    items = int(lengths.sum())

    def ids(count: int) -> np.ndarray:
        return np.where(source.random(count) < 0.1, source.integers(1, 3, count), source.integers(4, 2**62, count))

    def numbers(rows: int, columns: int) -> np.ndarray:
        values = source.lognormal(1.0, 1.0, (rows, columns))
        chance = source.random((rows, columns))
        return np.where(chance < 0.1, np.nan, np.where(chance < 0.2, transforms.UNSEEN_VALUE, values)).astype(np.float32)

    def bag(rows: int) -> records.Bag:
        counts = source.integers(1, 5, rows)
        return records.Bag(ids(int(counts.sum())), counts)

    item = source.integers(4, 2**62, items)
    events = source.integers(0, 5, lists)
    events[0] = 1
    touched = np.where(source.random(int(events.sum())) < 0.6, source.choice(item, int(events.sum())), 5)
    actions = source.integers(4, 6, int(events.sum()))
    touched[0], actions[0] = transforms.UNSEEN, transforms.UNSEEN
    return records.ListColumns(
        search_id=np.array([f"s{row}" for row in range(lists)], object),
        time=np.arange(lists) + 1_700_000_000_000,
        lengths=lengths,
        item=item,
        position=np.concatenate([np.arange(1, n + 1) for n in lengths]),
        labels=source.integers(0, 2, (items, len(layout.tasks))),
        delay=np.full((items, len(layout.tasks)), -1),
        popularity=np.zeros(items, np.float32),
        context_num=numbers(lists, len(layout.context_num)),
        item_num=numbers(items, len(layout.item_num)),
        cat={name: ids(items if name in layout.item_cat else lists) for name in layout.context_cat + layout.item_cat},
        bags={name: bag(items if name in layout.item_ragged else lists) for name in layout.context_ragged + layout.item_ragged},
        sequences={"recent": records.Histories(touched, actions, source.random(len(touched)).astype(np.float32) * 999, events)},
    )


def make_lists(folder: Path, text: str = SPEC) -> list[bytes]:
    """A published folder of list records with one test file."""
    chosen = parse_spec(text)
    columns = make_columns()
    serialized = records.encode(chosen, columns)
    path = folder / "data" / "test.tfrecord.gz"
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for record in serialized:
            writer.write(record)
    content = path.read_bytes()
    items = int(columns.lengths.sum())
    file = RecordFile(
        path=str(path.relative_to(folder)),
        day="2026-01-01",
        lists=len(serialized),
        items=items,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    split = Split(files=[file], lists=len(serialized), items=items, max_list_size=int(columns.lengths.max()))
    manifest = Manifest(
        dataset="tiny",
        source="test",
        created="2026-01-01T00:00:00+00:00",
        spec_fingerprint=chosen.fingerprint,
        spec_text=text,
        splits={"test": split},
    )
    publish_json(folder / "manifest.json", manifest)
    return serialized
