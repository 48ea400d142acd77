"""What a backfill refuses, before it writes anything, and the messages that say why."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cvr.errors import CvrError
from cvr.manifest import load_manifest, publish_json
from pipelines.backfilling.estimate import estimate
from pipelines.backfilling.job import backfill
from pipelines.backfilling.request import Request, plan
from pipelines.backfilling.spec import features_spec
from pipelines.backfilling.table import TableRequest
from pipelines.job import build
from tests.pipelines.backfilled import END, LAUNCH, START, digests, rich_log, spec_of
from tests.pipelines.logs import settings, write_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), *rich_log())


@pytest.fixture(scope="module")
def old(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("old") / "lists"
    derived = "  size: {kind: numerical, level: context, derive: {op: list_size}}\n"
    build(settings(log, output, spec_of(["price", "title"], LAUNCH) + derived))
    return output


def request(old: Path, tmp_path: Path, **changes: Any) -> Request:
    return dataclasses.replace(Request(str(old), str(tmp_path / "new"), ("price",), START, END), **changes)


def with_spec(old: Path, before: str, after: str) -> dict[str, Any]:
    text = load_manifest(old).spec_text
    assert before in text
    return {"spec_text": text.replace(before, after), "spec_name": "new.yaml"}


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown feature": ({"features": ("prize",)}, r"has no feature 'prize'; did you mean price"),
    "nothing like it": ({"features": ("zzz",)}, r"has no feature 'zzz'; it has cost, hour, word, thing, bought, price, title"),
    "derived": ({"features": ("size",)}, "size is derived in the model's graph and never stored"),
    "twice": ({"features": ("price", "price")}, "a feature is named twice"),
    "none": ({"features": ()}, "name one feature or more"),
    "half a day": ({"start": "2026-01-02T12:00"}, "--start=2026-01-02T12:00: expected a day such as 2026-01-31"),
    "no day": ({"end": "soon"}, "--end=soon: expected a date"),
    "backwards": ({"start": "2026-01-03", "end": "2026-01-02"}, "--start=2026-01-03 must lie before --end=2026-01-02"),
    "no partition": ({"start": "2027-01-01", "end": "2027-02-01"}, "has no partition in this range; it has 2026-01-01 to 2026-01-03"),
    "no lists": ({"lists": "/nowhere"}, "no manifest.json in /nowhere"),
    "source": ({"source": "nothing"}, "--source=nothing: no such source"),
    "input": ({"input": "/nowhere"}, "--input=/nowhere: no such"),
    "table": ({"table": TableRequest("/nowhere", ("query",))}, "--table=/nowhere: no such file"),
    "no keys": ({"table": TableRequest("/nowhere", ())}, "--table_keys: name the key columns"),
    "item column": ({"features": ("title",), "table": TableRequest("/nowhere", ("query",))}, "title cannot come from --table"),
    "key column": ({"table": TableRequest("/nowhere", ("price",))}, "price cannot come from --table"),
}


@pytest.mark.parametrize("name", CASES)
def test_requests_that_do_not_fit(old: Path, tmp_path: Path, name: str) -> None:
    changes, message = CASES[name]
    with pytest.raises(CvrError, match=message):
        backfill(request(old, tmp_path, **changes))
    assert not (tmp_path / "new").exists()


OTHER = "  other: {kind: numerical, level: item, from: impression.price}\n"
SPECS = {
    "task": ("window: 1h", "window: 2h", r"new.yaml: tasks is .* build the lists anew"),
    "dataset": ("dataset: tiny", "dataset: small", "new.yaml: dataset is 'small', and 'tiny' in the lists' spec"),
    "column": ("from: item.title", "from: item.name", "features.title.column is 'item.name', and 'item.title'"),
    "ngrams": ("ngrams: [1]", "ngrams: [2]", r"features.word.ngrams is \[2\], and \[1\]"),
    "removed": ("  cost: {kind: numerical, level: item, from: impression.price}\n", "", "features.cost is missing"),
    "launch of another": ("ngrams: [3]" , "ngrams: [3], max_chars: 32", "features.title.max_chars is 32, and 64"),
    "not asked for": ("features:\n", f"features:\n{OTHER}", "features.other is new, so it has to be asked for"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_specs_that_change_what_is_stored(old: Path, tmp_path: Path, name: str) -> None:
    before, after, message = SPECS[name]
    with pytest.raises(CvrError, match=message):
        plan(request(old, tmp_path, **with_spec(old, before, after)))


def test_of_asked_features_the_launch_may_move(old: Path, tmp_path: Path) -> None:
    found = plan(request(old, tmp_path, **with_spec(old, "from: impression.price, introduced_on: 2026-01-03", "from: impression.price")))
    assert {piece.treatment for piece in found.pieces} == {"merge", "encode"}
    alone = features_spec(found.spec_text, ("price",))
    assert "introduced_on" not in alone and "bought" not in alone
    with pytest.raises(CvrError, match="features.title.introduced_on is None, and '2026-01-03'"):
        plan(request(old, tmp_path, **with_spec(old, LAUNCH, "")))


def test_outputs_that_are_taken(old: Path, log: Path, tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="is --lists; published lists never change"):
        backfill(request(old, tmp_path, output=f"{old}/../lists"))
    other = tmp_path / "other"
    other.mkdir()
    publish_json(other / "manifest.json", load_manifest(old))
    with pytest.raises(CvrError, match="holds published lists"):
        backfill(request(old, tmp_path, output=str(other)))
    (tmp_path / "file").write_text("x")
    with pytest.raises(CvrError, match="is a file"):
        backfill(request(old, tmp_path, output=str(tmp_path / "file")))


def test_lists_of_another_record_format(old: Path, tmp_path: Path) -> None:
    (tmp_path / "elwc").mkdir()
    publish_json(tmp_path / "elwc" / "manifest.json", load_manifest(old).model_copy(update={"record_format": "elwc"}))
    with pytest.raises(CvrError, match="these records have format elwc"):
        backfill(request(old, tmp_path, lists=str(tmp_path / "elwc")))


def test_a_column_that_neither_log_nor_table_has(old: Path, log: Path, tmp_path: Path) -> None:
    rows, events = rich_log()
    for row in rows:
        del row["price"]
    bare = write_log(tmp_path / "bare", rows, events)
    with pytest.raises(CvrError, match="features.price: the impressions have no column 'price'.*--table"):
        backfill(request(old, tmp_path, input=str(bare)))
    assert not (tmp_path / "new" / "manifest.json").exists()


def test_a_feature_that_would_stay_unseen(old: Path, log: Path, tmp_path: Path) -> None:
    rows, events = rich_log()
    late = write_log(tmp_path / "log", [{k: v for k, v in row.items() if k != "price"} for row in rows], events)
    write_log(tmp_path / "more", [row for row in rows if row["search_id"] == "s39"], events[:1])
    (tmp_path / "more" / "impressions" / "part.parquet").rename(late / "impressions" / "late.parquet")
    with pytest.raises(CvrError, match="price would stay unseen in all lists from 2026-01-02 to 2026-01-03: the log's files"):
        backfill(request(old, tmp_path, input=str(late)))


def test_dry_run_writes_nothing_and_says_what_it_would_do(old: Path, tmp_path: Path) -> None:
    before = digests(old)
    text = estimate(request(old, tmp_path))
    # The customers of the log fall into two of the three partitions. The two days of training have 12 lists each, the test split 4; the
    # split of the range is read for its statistics, the other one only linked.
    assert "range: 1 days with lists, 2026-01-02 to 2026-01-02; 2 partitions (files), 12 lists, 40 items" in text
    assert "outside: 2 partitions (files), 12 lists, 40 items" in text and "and read for their statistics" in text
    assert "outside: 2 partitions (files), 4 lists, 13 items" in text and "new spec has another layout" not in text
    assert "log: 3 files, about 196 rows" in text and "building lists of 196 of their rows" in text
    assert "nothing was written" in text and digests(old) == before and not (tmp_path / "new").exists()
