"""Published lists made for a test: columns drawn with a seed and changed at will, written with a manifest that agrees with them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cvr.manifest import Coverage, Manifest, Moments, RecordFile, Split
from cvr.records import Bag, Histories, Layout, ListColumns, encode
from cvr.schema import parse_spec
from cvr.transforms import FIRST_ID
from pipelines import statistics, write
from tests.pipelines.logs import DAY, HOUR, MINUTE, T0

SPEC = """
dataset: made
tasks:
  click: {events: [click], window: 1h}
  purchase: {events: [purchase], window: 1d, primary: true}
features:
  price: {kind: numerical, level: item, from: impression.price}
  clicks: {kind: numerical, level: item, aggregate: {by: [item], event: click}}
  hour: {kind: numerical, level: context, from: impression.hour}
  brand: {kind: categorical, level: item, from: item.brand, embedding: {buckets: 8, dim: 2}}
  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 8, dim: 2}}
  words: {kind: text, level: item, from: item.title, ngrams: [3], embedding: {buckets: 64, dim: 2}}
  recent: {kind: sequence, level: context, history: {events: [click, purchase], length: 5}, embedding: {buckets: 64, dim: 2}}
"""
ITEMS = 200
Change = Callable[[ListColumns, str, int], ListColumns]
"""(columns, split, day) -> columns as they are written."""


def draw(lists: int, seed: int, day: int = 0) -> ListColumns:
    """Lists of 2 to 6 items; an item's `clicks` and brand tell something of its labels, and most of a history's items are in the list."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 7, lists)
    count = int(lengths.sum())
    item = rng.integers(0, ITEMS, count)
    time = np.sort(T0 + day * DAY + rng.integers(0, DAY, lists))
    chance = 0.1 + 0.5 * (item % 10) / 10
    click = rng.random(count) < chance
    purchase = click & (rng.random(count) < 0.5)
    labels = np.stack([click, purchase], axis=1).astype(np.int64)
    delays = np.stack([rng.integers(0, HOUR + 1, count), rng.integers(MINUTE, DAY + 1, count)], axis=1)
    words = rng.integers(1, 4, count)
    held = rng.integers(0, 6, lists)
    ages = np.concatenate([np.sort(rng.random(n) * 1e5) for n in held] or [np.zeros(0)])
    return ListColumns(
        search_id=np.array([f"{seed}-{day}-{number}".encode() for number in range(lists)], object),
        time=time,
        lengths=lengths,
        item=item + 10 * FIRST_ID,
        position=np.concatenate([np.arange(1, n + 1) for n in lengths]),
        labels=labels,
        delay=np.where(labels > 0, delays, -1),
        popularity=rng.integers(0, 9, count).astype(np.float32),
        context_num=(time[:, None] // HOUR % 24).astype(np.float32),
        item_num=np.stack([rng.lognormal(3, 1, count), rng.poisson(20 * chance)], axis=1).astype(np.float32),
        cat={"brand": FIRST_ID + item % 7, "device": FIRST_ID + rng.integers(0, 3, lists)},
        bags={"words": Bag(FIRST_ID + rng.integers(0, 50, int(words.sum())), words)},
        sequences={"recent": Histories(
            FIRST_ID + rng.integers(0, ITEMS, int(held.sum())), np.full(int(held.sum()), FIRST_ID), ages.astype(np.float32), held
        )},
    )  # fmt: skip


def replace_number(columns: ListColumns, name: str, values: np.ndarray) -> ListColumns:
    """Other values of a numerical of level item."""
    place = Layout.of(parse_spec(SPEC)).item_num.index(name)
    numbers = columns.item_num.copy()
    numbers[:, place] = values
    return dataclasses.replace(columns, item_num=numbers)


def _coverage(columns: ListColumns) -> dict[str, Coverage]:
    """For columns in which only numbers of items, and histories, can be missing or unseen."""
    layout = Layout.of(parse_spec(SPEC))
    lists, items = len(columns.lengths), len(columns.item)
    found = {"hour": Coverage(present=lists), "device": Coverage(present=lists)}
    found |= {"brand": Coverage(present=items), "words": Coverage(present=items)}
    empty = int((columns.sequences["recent"].lengths == 0).sum())
    found["recent"] = Coverage(present=lists - empty, missing=empty)
    for place, name in enumerate(layout.item_num):
        values = columns.item_num[:, place]
        nan, unseen = int(np.isnan(values).sum()), int(np.isneginf(values).sum())
        found[name] = Coverage(present=items - nan - unseen, missing=nan, unseen=unseen)
    return found


def _add(one: Coverage, other: Coverage) -> Coverage:
    return Coverage(**{name: getattr(one, name) + getattr(other, name) for name in Coverage.model_fields})


def _split(folder: Path, name: str, parts: Mapping[tuple[int, int], ListColumns]) -> Split:
    spec = parse_spec(SPEC)
    split = Split()
    for (day, part), columns in sorted(parts.items()):
        label = f"2026-01-{day + 1:02d}"
        path = f"data-0123456789ab/{name}/{label}/part-{part:05d}.tfrecord.gz"
        size, digest = write.write_records(str(folder / path), encode(spec, columns))
        lists, items = len(columns.lengths), len(columns.item)
        split.files.append(RecordFile(path=path, day=label, lists=lists, items=items, bytes=size, sha256=digest))
        for feature, moments in statistics.of_columns(Layout.of(spec), columns, np.ones(lists, bool)).items():
            split.statistics[feature] = split.statistics.get(feature, Moments()).merge(moments)
        covered = split.coverage.setdefault(label, {})
        for feature, coverage in _coverage(columns).items():
            covered[feature] = _add(covered.get(feature, Coverage()), coverage)
    every = list(parts.values())
    split.lists, split.items = sum(f.lists for f in split.files), sum(f.items for f in split.files)
    split.max_list_size = max(int(c.lengths.max()) for c in every)
    split.first_time, split.last_time = (int(pick([pick(c.time) for c in every])) for pick in (min, max))
    for place, task in enumerate(spec.task_names):
        split.labels[task] = int(sum(c.labels[:, place].sum() for c in every))
        rows = [np.repeat(np.arange(len(c.lengths)), c.lengths)[c.labels[:, place] > 0] for c in every]
        split.lists_with[task] = sum(len(np.unique(row)) for row in rows)
    return split


def _histograms(every: list[ListColumns]) -> dict[str, Any]:
    from collections import Counter

    def tally(values: np.ndarray) -> dict[str, int]:
        return {str(key): count for key, count in Counter(values.tolist()).items()}

    positions = np.concatenate([c.position for c in every])
    labels = np.concatenate([c.labels for c in every])
    told = {task: tally(positions[labels[:, place] > 0]) for place, task in enumerate(parse_spec(SPEC).task_names)}
    return {
        "list_lengths": tally(np.concatenate([c.lengths for c in every])),
        "positions": {"impressions": tally(positions), **told},
    }


def publish(folder: Path, days: int = 3, lists: int = 400, parts: int = 2, change: Change | None = None) -> Path:
    """Publishes `days` training days and one test day of `lists` lists each; returns the folder."""
    spec = parse_spec(SPEC)
    drawn: dict[str, dict[tuple[int, int], ListColumns]] = {"train": {}, "test": {}}
    for day in range(days + 1):
        split = "train" if day < days else "test"
        for part in range(parts):
            columns = draw(lists // parts, 100 * day + part, day)
            drawn[split][day, part] = change(columns, split, day) if change else columns
    histogram = {"0": 1, "1000": 5, "3600000": 3, "7200000": 1}
    attribution = {
        task: {"attributed": 9, "out_of_window": 1, "delay_histogram": histogram} for task in spec.task_names
    }
    manifest = Manifest(
        dataset="made",
        source="test",
        created="2026-02-01T00:00:00+00:00",
        spec_fingerprint=spec.fingerprint,
        spec_text=SPEC,
        counts={
            "splits": {name: _histograms(list(of.values())) for name, of in drawn.items()},
            "last_time": T0 + (days + 2) * DAY,
            "attribution": attribution,
        },
        flags={"start": "none", "test_from": f"2026-01-{days + 1:02d}T00:00:00Z", "end": "none"},
        splits={name: _split(folder, name, of) for name, of in drawn.items()},
    )
    write.publish(str(folder), manifest)
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest's JSON in place."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
