"""What the tests of backfills share: a tiny log with every kind of feature, and published lists compared key by key."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvr.manifest import Coverage, Manifest, load_manifest
from cvr.records import Layout, ListColumns, decode
from cvr.schema import FeatureSpec
from pipelines import coverage, statistics
from pipelines.backfilling.job import backfill
from pipelines.backfilling.merge import values_of
from pipelines.backfilling.request import Request
from pipelines.counts import merge_all
from pipelines.record_files import read_records
from tests.pipelines.logs import SPEC, small_log

NEW = {
    "price": "price: {kind: numerical, level: item, from: impression.price%s}",
    "device": "device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 8, dim: 2}%s}",
    "query": "query: {kind: text, level: context, from: impression.query, ngrams: [2], embedding: {buckets: 64, dim: 2}%s}",
    "title": "title: {kind: text, level: item, from: item.title, ngrams: [3], embedding: {buckets: 64, dim: 2}%s}",
    "stock": "stock: {kind: numerical, level: item, from: item.stock%s}",
    "tags": 'tags: {kind: categorical, level: item, separator: "|", from: impression.tags, embedding: {buckets: 8, dim: 2}%s}',
    "kind": "kind: {kind: categorical, level: item, from: impression.kind, vocabulary: [x, y], embedding: {buckets: 8, dim: 2}%s}",
    "recent": "recent: {kind: sequence, level: context, history: {events: [click, purchase], length: 3}, embedding: "
    "{buckets: 64, dim: 2}%s}",
    "item_rate": "item_rate: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression, bucket: 1ms}%s}",
    "query_clicks": "query_clicks: {kind: numerical, level: context, aggregate: {by: [query], event: click, bucket: 1ms}%s}",
}
"""Every kind of feature, each with a place for `introduced_on`."""
KEPT = """
  cost: {kind: numerical, level: item, from: impression.price}
  hour: {kind: numerical, level: context, from: impression.time}
  word: {kind: text, level: context, from: impression.query, ngrams: [1], embedding: {buckets: 64, dim: 2}}
  thing: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 64, dim: 2}}
  bought: {kind: sequence, level: context, history: {events: [purchase], length: 2}, embedding: {buckets: 64, dim: 2}}
"""
START, END = "2026-01-02", "2026-01-03"
LAUNCH = ", introduced_on: 2026-01-03"


def spec_of(names: list[str], launch: str = "", first: str = KEPT) -> str:
    """The tiny log's tasks with the kept features and the named ones."""
    lines = "".join(f"  {NEW[name] % launch}\n" for name in names)
    return SPEC[: SPEC.index("features:")] + "features:" + first.rstrip() + "\n" + lines


def rich_log() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The small log with a multi-valued and a categorical column, some of them null."""
    rows, events = small_log()
    for number, row in enumerate(rows):
        row["tags"] = ["wifi|pool", "pool", None, "wifi| spa"][number % 4]
        row["kind"] = ["x", "y", "z", None][number % 4]
    return rows, events


def read(folder: Path, days: tuple[str, str] = ("", "9")) -> tuple[FeatureSpec, ListColumns]:
    """All lists of some days, decoded, in an order of its own that no file decides."""
    manifest = load_manifest(folder)
    files = [file for split in manifest.splits.values() for file in split.files if days[0] <= file.day < days[1]]
    records = [record for file in files for record in read_records(str(folder / file.path))]
    spec = manifest.spec()
    order = np.argsort(decode(spec, records).search_id)
    return spec, decode(spec, [records[i] for i in order])


def flat(values: Any) -> list[bytes]:
    """A feature's values as bytes, so that NaN equals NaN and nothing else."""
    parts = [getattr(values, field.name) for field in dataclasses.fields(values)] if dataclasses.is_dataclass(values) else [values]
    return [b" ".join(part) if part.dtype == object else np.ascontiguousarray(part).tobytes() for part in parts]


def assert_same(left: tuple[FeatureSpec, ListColumns], right: tuple[FeatureSpec, ListColumns], but: tuple[str, ...] = ()) -> int:
    """Every key of the records is equal, byte for byte, but for some features; gives the number of keys compared."""
    for name in ("search_id", "time", "lengths", "item", "position", "labels", "delay", "popularity"):
        assert flat(getattr(left[1], name)) == flat(getattr(right[1], name)), name
    layouts = [Layout.of(spec) for spec, _ in (left, right)]
    names = [feature.name for feature in left[0].select(stored=True) if feature.name not in but]
    for name in names:
        sides = zip((left, right), layouts, strict=True)
        ours, theirs = (flat(values_of(layout, columns, spec.features[name])) for (spec, columns), layout in sides)
        assert ours == theirs, name
    return 8 + len(names)


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def check_manifest(folder: Path) -> Manifest:
    """Checksums, statistics and coverage are those that the files themselves give."""
    manifest = load_manifest(folder)
    spec, layout = manifest.spec(), Layout.of(manifest.spec())
    for split in manifest.splits.values():
        assert sum(file.lists for file in split.files) == split.lists
        by_day: dict[str, list[ListColumns]] = {}
        for file in split.files:
            data = (folder / file.path).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
            by_day.setdefault(file.day, []).append(decode(spec, read_records(str(folder / file.path))))
        for feature in spec.select(stored=True):
            values = [values_of(layout, part, feature) for parts in by_day.values() for part in parts]
            if feature.kind == "numerical":
                expected, found = statistics.moments(np.concatenate(values)), split.statistics[feature.name]
                numbers = [{key: value for key, value in m.model_dump().items() if value is not None} for m in (found, expected)]
                assert numbers[0] == pytest.approx(numbers[1], rel=1e-12), feature.name
        for day, parts in by_day.items():
            found = merge_all(coverage.of_columns(spec, part, np.ones(len(part.lengths), bool))[day] for part in parts)
            expected = {name: Coverage.model_validate(counts) for name, counts in found.items()}
            assert split.coverage[day] == expected, day
    return manifest


def run_and_die(request: Request, module: str, function: str, calls: int, force: bool = False) -> None:
    """A backfill that kills its own process as `kill -9` does, instead of calling a function of a module once more than `calls`."""
    place = importlib.import_module(module)
    called, made = getattr(place, function), itertools.count(1)

    def dying(*arguments: Any, **named: Any) -> Any:
        if next(made) > calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return called(*arguments, **named)

    setattr(place, function, dying)
    backfill(request, force=force)
