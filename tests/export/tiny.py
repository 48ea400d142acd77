"""A tiny finished run for the export tests, with every kind of feature that a request can hold, and unlike tables and encoders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvr.data import dummy_batch
from cvr.manifest import publish_json
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.runs import RUN_FILE, SPEC_FILE, Run, load_run
from cvr.schema import parse_spec

SPEC = """
dataset: tiny
tasks:
  purchase: {events: [purchase], window: 1d, primary: true}
  click: {events: [click], window: 1h}
features:
  query: {kind: text, level: context, from: impression.query, ngrams: [2, 3], embedding: {buckets: 50, dim: 3}}
  device: {kind: categorical, level: context, from: impression.device, vocabulary: [phone, tablet], embedding: {buckets: 10, dim: 2}}
  hour: {kind: numerical, level: context, from: impression.hour}
  item: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 20, dim: 2, shrinkage: 3}}
  price: {kind: numerical, level: item, from: item.price}
  rate: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression}}
  tags: {kind: categorical, level: item, from: item.tags, separator: "|", embedding: {buckets: 30, dim: 2, method: multi_hash}}
  title: {kind: text, level: item, from: item.title, ngrams: [3], embedding: {buckets: 50, dim: 2, method: unified}}
  recent:
    kind: sequence
    level: context
    history: {events: [click, purchase], length: 4}
    embedding: {buckets: 20, dim: 2, method: quotient_remainder}
    encoder: gru
  touched: {kind: numerical, level: item, derive: {op: history_count, history: recent}}
  to_last: {kind: numerical, level: item, derive: {op: offset_to_last, history: recent}}
  above: {kind: numerical, level: item, derive: {op: diff_above, feature: price}}
  price_rank: {kind: numerical, level: item, derive: {op: list_rank, feature: price}}
"""
BACKBONE = {"cross_width": 8, "deep_width": 8, "cross_layers": 1, "deep_layers": 2}
CONFIG = RankerConfig(backbone="dcnv2", backbone_config=BACKBONE, experts=2, expert_width=8, tower_width=4, seed=3)


def make_run(folder: Path, text: str = SPEC) -> tuple[Ranker, Run]:
    """A finished run of a ranker whose random tables are large enough that every input moves the logits."""
    spec = parse_spec(text)
    ranker = build_ranker(spec, CONFIG, dummy_batch(spec))
    source = np.random.default_rng(1)
    for variable in ranker.trainable_variables:
        if "table" in variable.name or "empty" in variable.name:
            variable.assign(source.normal(0.0, 1.0, variable.shape))
    for table in ranker.extraction.shrunk_tables.values():
        table.set_counts(source.integers(0, 9, table.counts.shape))
    folder.mkdir(parents=True)
    prefix = tf.train.Checkpoint(model=ranker).save(str(folder / "weights"))
    (folder / SPEC_FILE).write_text(text, encoding="utf-8")
    model = dataclasses.asdict(CONFIG)
    publish_json(folder / RUN_FILE, {"status": "finished", "model": model, "checkpoint": Path(prefix).name, "data": "0"})
    return ranker, load_run(folder)
