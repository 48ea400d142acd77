"""Whole builds of a synthetic log with all steps on, as files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cvr.errors import CvrError
from cvr.manifest import Manifest
from pipelines.backfilling.request import Request, plan
from pipelines.es3 import checks
from pipelines.es3.options import EntireSpace
from pipelines.job import build
from pipelines.settings import Settings, parse_time
from pipelines.validation.tables import counts_table
from tools.synthetic.generate import generate
from tools.synthetic.settings import Settings as LogSettings

SPEC = """
dataset: lean
tasks:
  click: {events: [click], window: 1h}
  purchase: {events: [purchase], window: 1d, primary: true}
features:
  domain: {kind: categorical, level: context, from: impression.domain, vocabulary: [search, feed], embedding: {buckets: 2, dim: 2}}
  exposure: {kind: categorical, level: item, from: impression.exposure, vocabulary: [exposed, unexposed], embedding: {buckets: 2, dim: 2}}
  price: {kind: numerical, level: item, from: impression.price}
  query: {kind: categorical, level: context, from: impression.query, embedding: {buckets: 64, dim: 2}}
  query_category: {kind: categorical, level: context, from: impression.query_category, embedding: {buckets: 64, dim: 2}}
  rate: {kind: numerical, level: item, aggregate: {by: [query, item], event: click, per: impression}}
"""
ES3 = EntireSpace(unexposed_per_list=8, attribute_elsewhere=True, searchify=("feed",), query_columns=("query_category",))
Built = tuple[Path, Manifest]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    small = LogSettings(days=4, searches_per_day=60, customers=20, items=80, queries=20, feed_share=1.0, candidates_per_search=20)
    generate(small, folder, "parquet")
    return folder


@pytest.fixture(scope="module")
def builds(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Built]:
    """Plain lists and those with all steps."""
    settings = Settings(
        source="canonical",
        input=str(log),
        output=str(tmp_path_factory.mktemp("plain")),
        spec_text=SPEC,
        validation_from=parse_time("2026-01-02T12:00", "validation_from"),
        test_from=parse_time("2026-01-03", "test_from"),
        partitions=2,
    )
    wide = dataclasses.replace(settings, output=str(tmp_path_factory.mktemp("wide")), es3=ES3)
    return (Path(settings.output), build(settings)), (Path(wide.output), build(wide))


def _files(built: Built, split: str) -> dict[str, bytes]:
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in built[0].glob(f"data-*/{split}/*/part-*")}


def test_evaluation_lists_are_what_they_are_without_it(builds: tuple[Built, Built]) -> None:
    plain, wide = builds
    for split in ("validation", "test"):
        assert _files(plain, split) == _files(wide, split) and wide[1].split(split).lists > 5
    assert any(name.endswith("-pages.tfrecord.gz") for name in _files(wide, "train"))
    assert not any("pages" in name for split in ("train", "validation", "test") for name in _files(plain, split))


def test_what_the_manifest_says(builds: tuple[Built, Built]) -> None:
    (_, plain), (_, wide) = builds
    assert "es3" not in plain.counts and not list(checks.report(plain.counts)) and "candidates" not in plain.counts["rows"]
    found = wide.counts["es3"]
    assert found["unexposed"]["kept"] > 100 and wide.counts["rows"]["candidates"] == found["unexposed"]["candidates"]
    pages = found["searchified"]
    assert pages["lists"] > 10 and pages["query_frequent"] and pages["positives:purchase"] >= pages["lists"]
    assert pages["lists"] == sum(pages[f"query_{tier}"] for tier in ("own", "frequent", "nearest")) - pages["alone"]
    assert wide.split("train").lists == sum(file.lists for file in wide.split("train").files)
    assert wide.split("train").lists > plain.split("train").lists + pages["lists"] - 1
    of_search = wide.counts["lists"]
    assert of_search["seen"] == plain.counts["lists"]["seen"] and of_search["kept"] + pages["lists"] == sum(
        split.lists for split in wide.splits.values()
    )
    assert wide.flags["searchify"] == ["feed"] and wide.flags["unexposed_per_list"] == 8 and plain.flags["unexposed_per_list"] == 0
    lines = list(checks.report(wide.counts))
    assert len(lines) == 1 + 2 + 1 and lines[0].startswith("un-exposed: candidates ") and "query own" in lines[-1]
    assert len(counts_table(found).rows) == sum(len(part) for part in (found["unexposed"], pages, *found["attribution"].values()))


def test_lists_with_it_are_not_backfilled(builds: tuple[Built, Built], tmp_path: Path) -> None:
    request: dict[str, Any] = {"features": ("price",), "start": "2026-01-01", "end": "2026-01-02"}
    with pytest.raises(CvrError, match="built with --unexposed_per_list"):
        plan(Request(str(builds[1][0]), str(tmp_path / "new"), **request))


def test_a_log_without_candidates_is_refused(builds: tuple[Built, Built], log: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for table in ("impressions", "engagements", "items"):
        (bare / table).symlink_to(log / table)
    spec = builds[0][1].spec_text
    with pytest.raises(CvrError, match="holds no candidates"):
        build(Settings(source="canonical", input=str(bare), output=str(tmp_path / "out"), spec_text=spec, es3=ES3))
