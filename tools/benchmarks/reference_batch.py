"""The reference content of a training step: 60 numericals, 12 categoricals, 3 texts of about 24 n-grams, a history of 50, lists of 32."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.data import Batch, Budget, dummy_batch
from cvr.schema import FeatureSpec, parse_spec
from cvr.transforms import FIRST_ID

LENGTH, NGRAMS, HISTORY = 32, 24, 50
_MOST_CATEGORY_ROWS = 100_000
_TASKS = {"purchase": "1d, primary: true", "cart": "1d", "click": "1h"}


def reference_spec(rows: int, dim: int) -> FeatureSpec:
    """The features; the table of items, which the history shares, has `rows` rows of width `dim`, 14 others have 100,000 at most."""
    return parse_spec(reference_text(rows, dim))


def reference_text(rows: int, dim: int) -> str:
    """The spec as YAML."""
    size = f"embedding: {{buckets: {min(rows, _MOST_CATEGORY_ROWS)}, dim: {dim}}}"
    lines = ["dataset: reference", "tasks:"]
    lines += [f"  {task}: {{events: [{task}], window: {window}}}" for task, window in _TASKS.items()]
    lines += ["tables:", f"  items: {{buckets: {rows}, dim: {dim}}}", "features:"]
    lines += [f"  number{i}: {{kind: numerical, level: item, from: item.number{i}}}" for i in range(60)]
    lines += ["  item: {kind: categorical, level: item, from: impression.item_id, table: items}"]
    levels = ["context"] * 4 + ["item"] * 7
    lines += [f"  category{i}: {{kind: categorical, level: {level}, from: impression.c{i}, {size}}}" for i, level in enumerate(levels)]
    texts = {"query": "context", "title": "item", "brand": "item"}
    lines += [f"  {name}: {{kind: text, level: {level}, from: impression.{name}, {size}}}" for name, level in texts.items()]
    history = f"history: {{events: [click, purchase], length: {HISTORY}}}"
    lines += [f"  recent: {{kind: sequence, level: context, {history}, table: items, encoder: target_attention}}"]
    return "\n".join(lines) + "\n"


def reference_batch(spec: FeatureSpec, lists: int, seed: int = 0, length: int = LENGTH) -> Batch:
    """A batch of static shapes with `lists` lists of `length` items and the empty one, uniform ids, one purchase and two clicks a list."""
    source, items = np.random.default_rng(seed), lists * length
    batch = dict(dummy_batch(spec, lists, length, NGRAMS, Budget(items, lists + 1, pad_bags=True)))
    for name, value in batch.items():
        shape, known = value.shape.as_list(), name.rpartition("/")[2]
        if name == "item" or name.startswith("cat/") or (name.startswith("seq/") and known == "item"):
            batch[name] = tf.constant(source.integers(FIRST_ID, 2**62, shape))
        elif name.startswith("ragged/") and known == "values":
            real = batch[name.replace("values", "rows")].numpy() >= 0
            batch[name] = tf.constant(np.where(real, source.integers(FIRST_ID, 2**62, shape), value.numpy()))
        elif known == "action":
            batch[name] = tf.constant(source.integers(FIRST_ID, FIRST_ID + 2, shape))
        elif known == "age":
            batch[name] = tf.constant(np.sort(source.integers(1, 10**6, shape), axis=1).astype(np.float32))
        elif name in ("item_num", "context_num"):
            batch[name] = tf.constant(source.lognormal(0, 1, shape).astype(np.float32))
    batch["labels"] = tf.constant(_labels(source, lists, length, len(spec.task_names)), batch["labels"].dtype)
    return batch


def _labels(source: np.random.Generator, lists: int, length: int, tasks: int) -> np.ndarray:
    """Items of each list by task: one purchase, one cart, two clicks."""
    order = np.argsort(source.random((lists, length)), axis=1)
    return np.stack([order < (2 if task == tasks - 1 else 1) for task in range(tasks)], axis=-1).reshape(-1, tasks)
