"""Feature tables: which row an impression gets, what is set aside, and features of old lists from a table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.records import Layout
from pipelines import backfill as backfill_main
from pipelines import claim
from pipelines.backfilling.estimate import estimate
from pipelines.backfilling.job import backfill
from pipelines.backfilling.merge import values_of
from pipelines.backfilling.request import Request
from pipelines.backfilling.table import TableRequest, prepare
from pipelines.feature_table import join
from pipelines.job import build
from pipelines.settings import FeatureTable
from pipelines.values import absent_mask
from tests.commands import run_main
from tests.pipelines.backfilled import END, LAUNCH, START, assert_same, check_manifest, read, spec_of
from tests.pipelines.logs import DAY, HOUR, T0, settings, small_log, write_jsonl, write_log
from tests.pipelines.object_store import OBJECTS, upload


def write_table(path: Path, rows: list[dict[str, Any]]) -> TableRequest:
    """Rows as a Parquet feature table keyed by query and item."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return TableRequest(str(path), ("query", "item_id"))


def prepared(table: TableRequest, folder: Path, kinds: str = "n", bad: float = 0.0, first: int = 0, end: int = DAY) -> FeatureTable:
    times = (T0 + first, T0 + end)
    return prepare(table, {"score": set(kinds)}, times, str(folder / "t.arrow"), str(folder / "bad.jsonl"), bad)[0]


def looked_up(table: FeatureTable, impressions: list[dict[str, Any]]) -> list[Any]:
    """The joined scores; `absent` where there is no row."""
    found = join(pa.Table.from_pylist(impressions), table)
    pairs = zip(found.column("score").to_pylist(), found.column(absent_mask("score")).to_pylist(), strict=True)
    return ["absent" if absent else value for value, absent in pairs]


def test_the_newest_value_strictly_before_the_impression(tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "t.parquet",
        [
            {"query": "q", "item_id": "a", "time": T0 + 20, "score": 2.0},
            {"query": "q", "item_id": "a", "time": T0 + 10, "score": 1.0},
            {"query": "q", "item_id": "a", "time": T0 + 30, "score": None},
            {"query": "q", "item_id": "a", "time": T0 + 40, "score": 4.0},
            {"query": "q", "item_id": "a", "time": T0 + 40, "score": 5.0},
            {"query": "r", "item_id": "a", "time": T0 + 10, "score": 9.0},
        ],
    )
    asked = [{"query": "q", "item_id": "a", "time": T0 + t} for t in (10, 11, 20, 21, 31, 40, 41)]
    asked += [{"query": "q", "item_id": "b", "time": T0 + 99}, {"query": None, "item_id": "a", "time": T0 + 99}]
    found = looked_up(prepared(table, tmp_path), asked)
    assert found == ["absent", 1.0, 1.0, 2.0, None, None, 5.0, "absent", "absent"]
    later = TableRequest(table.path, table.keys, lag=10)
    (tmp_path / "later").mkdir()
    assert looked_up(prepared(later, tmp_path / "later"), asked[:7]) == ["absent", "absent", "absent", 1.0, 2.0, 2.0, None]


@pytest.mark.parametrize("kinds", ["n", "s"])
def test_random_tables_against_a_loop(tmp_path: Path, kinds: str) -> None:
    random = np.random.default_rng(5)
    rows = [
        {"query": f"q{random.integers(3)}", "item_id": f"i{random.integers(4)}", "time": T0 + int(random.integers(60)), "score": float(n)}
        for n in range(300)
    ]
    asked = [
        {"query": f"q{random.integers(4)}", "item_id": f"i{random.integers(4)}", "time": T0 + int(random.integers(20, 50))}
        for _ in range(200)
    ]
    expected: list[Any] = []
    for row in asked:
        before = [r for r in rows if (r["query"], r["item_id"]) == (row["query"], row["item_id"]) and r["time"] < row["time"] - 3]
        best = max(before, key=lambda r: (r["time"], r["score"])) if before else None
        expected.append("absent" if best is None else best["score"] if kinds == "n" else str(int(best["score"])))
    folder = tmp_path / "table"
    folder.mkdir()
    for part in range(3):
        pq.write_table(pa.Table.from_pylist(rows[part * 100 : part * 100 + 100]), folder / f"{part}.parquet")
    table = prepared(TableRequest(str(folder), ("query", "item_id"), lag=3), tmp_path, kinds, first=20, end=50)
    assert looked_up(table, asked) == expected
    # Of 300 rows those stay that some impression from T0 + 20 to T0 + 49 can look up.
    with pa.ipc.open_stream(pa.memory_map(table.path)) as stream:
        kept = stream.read_all()
    assert len(kept) < 250 and max(kept.column("time").to_pylist()) == T0 + 46


def test_bad_rows_are_set_aside_with_file_row_and_reason(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "item_id": "a", "time": T0, "score": "1.5"},
        {"query": None, "item_id": "a", "time": T0, "score": "2"},
        {"query": "q", "item_id": "", "time": T0, "score": "2"},
        {"query": "q", "item_id": "a", "time": None, "score": "2"},
        {"query": "q", "item_id": "a", "time": 1_700_000_000, "score": "2"},
        {"query": "q", "item_id": "a", "time": T0 + 5, "score": "high"},
    ]
    path = write_jsonl(tmp_path, "scores", rows)
    table = TableRequest(str(path.parent), ("query", "item_id"))
    with pytest.raises(CvrError, match=r"5 of 6 rows are bad \(83.33%.*row 1 \(from 0\): query is null or empty"):
        prepared(table, tmp_path, bad=0.5)
    found = prepared(table, tmp_path, bad=0.9)
    assert looked_up(found, [{"query": "q", "item_id": "a", "time": T0 + 9}]) == [1.5]
    letters = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    reasons = ["query is null", "item_id is null", "time is null", "time lies before 1973", "score is not a number"]
    assert [(letter["row"], letter["file"]) for letter in letters] == [(row, str(path)) for row in range(1, 6)]
    assert all(letter["reason"].startswith(reason) for letter, reason in zip(letters, reasons, strict=True))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"query": "q", "time": T0, "score": 1.0}], "lacks the column.s. item_id; it has query, score, time"),
        ([{"query": "q", "item_id": "a", "score": 1.0}], "lacks the column.s. time"),
        ([{"query": "q", "item_id": "a", "time": T0, "score": [1.0]}], "'score' has type list.*needs numbers"),
        ([{"query": {"x": 1}, "item_id": "a", "time": T0, "score": 1.0}], "'query' has type struct"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CvrError, match=message):
        prepared(write_table(tmp_path / "t.parquet", rows), tmp_path)


def test_paths_without_a_table_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "no such file"), (tmp_path, "no file ending in .parquet")):
        with pytest.raises(CvrError, match=message):
            prepared(TableRequest(str(path), ("query",)), tmp_path)
    pq.write_table(pa.schema([("query", pa.string()), ("time", pa.int64()), ("score", pa.float64())]).empty_table(), tmp_path / "e.parquet")
    with pytest.raises(CvrError, match="the feature table has no row"):
        prepared(TableRequest(str(tmp_path), ("query",)), tmp_path)


def test_old_lists_get_a_feature_from_a_table(tmp_path: Path) -> None:
    rows, events = small_log()
    for row in rows:  # the log has the column from the third day on
        row.pop("price")
    late = [{**row, "price": 7.5} for row in rows if row["time"] >= T0 + 2 * DAY]
    log = write_log(tmp_path / "log", [row for row in rows if row["time"] < T0 + 2 * DAY], events)
    write_log(tmp_path / "rest", late, events[:1])
    (tmp_path / "rest" / "impressions" / "part.parquet").rename(log / "impressions" / "late.parquet")
    old, new = tmp_path / "old", tmp_path / "new"
    build(settings(log, old, spec_of(["price", "stock"], LAUNCH, first="")))
    scores = [
        {"query": f"q{query}", "item_id": item, "time": T0 + hour * HOUR, "price": float(10 * hour + query)}
        for query in range(3) for item in "ab" for hour in (0, 30, 60)
    ]  # fmt: skip
    table = write_table(tmp_path / "t.parquet", [*scores, {"query": "q0", "item_id": "c", "time": T0, "price": None}])
    manifest = backfill(Request(str(old), str(new), ("price",), START, END, input=str(log), table=table))
    spec, columns = read(new, (START, END))
    # Lists of the second day are searches 12 .. 23 at 2 n hours + 7 ms with query n % 4: before 30 h (15) the row of hour 0 counts, after
    # it that of hour 30. q3 and item d are not in the table (unseen), and item c only with q0 (missing).
    assert columns.search_id.tolist() == [f"s{n}".encode() for n in range(12, 24)]
    found = np.split(np.asarray(values_of(Layout.of(spec), columns, spec.features["price"])), np.cumsum(columns.lengths)[:-1])
    shown = [["a", "b", "c"], ["c", "a", "d"], ["b", "d", "a", "c"]]
    for n, values in zip(range(12, 24), found, strict=True):
        known = (300.0 if n >= 15 else 0.0) + n % 4
        lookup = {"a": known, "b": known, "c": np.nan if n % 4 == 0 else -np.inf, "d": -np.inf}
        expected = [lookup[item] if n % 4 < 3 else -np.inf for item in shown[n % 3]]
        np.testing.assert_array_equal(values, np.array(expected, np.float32), err_msg=f"s{n}")
    assert_same(read(new), read(old), but=("price",))
    assert_same(read(new, (END, "9")), read(old, (END, "9")))
    check_manifest(new)
    assert manifest.changes[-1]["table"] == {"path": str(tmp_path / "t.parquet"), "keys": ["query", "item_id"], "lag": 0}
    assert load_manifest(new) == manifest


def test_everything_on_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SETTLE", 0.01)
    log = write_log(tmp_path / "log", *small_log())
    build(settings(log, tmp_path / "old", spec_of(["price", "stock"], LAUNCH, first="")))
    (tmp_path / "scores").mkdir()
    table = write_table(tmp_path / "scores" / "t.parquet", [{"query": "q0", "item_id": "a", "time": T0, "price": 3.0}])
    local = Request(str(tmp_path / "old"), str(tmp_path / "new"), ("price",), START, END, input=str(log), table=table)
    expected = backfill(local)
    OBJECTS.clear()
    for name in ("log", "old", "scores"):
        upload(tmp_path / name, f"store://bucket/{name}")
    before = dict(OBJECTS)
    remote = TableRequest("store://bucket/scores", table.keys)
    stored = dataclasses.replace(local, lists="store://bucket/old", output="store://bucket/new", input="store://bucket/log", table=remote)
    estimate(stored)
    assert before == OBJECTS
    manifest = backfill(stored)
    assert manifest.data_fingerprint() == expected.data_fingerprint()
    names = {path.removeprefix("store://bucket/new/") for path in OBJECTS if path.startswith("store://bucket/new/")}
    files = {file.path for split in manifest.splits.values() for file in split.files}
    assert names == {"manifest.json", *files} and {path: OBJECTS[path] for path in before} == before
    with pytest.raises(CvrError, match="holds published lists"):
        backfill(stored)
    OBJECTS.clear()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path / "log", *small_log())
    build(settings(log, tmp_path / "old", spec_of(["price"], LAUNCH, first="")))
    table = write_table(tmp_path / "t.parquet", [{"query": "q0", "item_id": "a", "time": T0 + 30 * HOUR, "price": 3.0}])
    asked = [f"--lists={tmp_path / 'old'}", f"--output={tmp_path / 'new'}", "--features=price", f"--start={START}", f"--end={END}"]
    asked += [f"--table={table.path}", "--table_keys=query,item_id"]
    run_main(backfill_main, *asked, "--table_lag=8h")
    # Of the lists of q0 and the second day only s20 (at 40 h) comes after 38 h; s12 and s16 do not. All three show a.
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("lists from 2026-01-02 to 2026-01-03: 12, found in the log 12, not found 0")
    assert told[1].startswith("price: present 1 (before 0), missing 0 (before 0), unseen 39 (before 40)")
    spec = tmp_path / "spec.yaml"
    spec.write_text(load_manifest(tmp_path / "old").spec_text)
    changes = {"--table_lag=soon": "--table_lag: 'soon' is not a duration", f"--spec={spec}": "holds published lists"}
    for flag, message in changes.items():
        with pytest.raises(CvrError, match=message):
            run_main(backfill_main, *asked, flag)
    with pytest.raises(CvrError, match="belong to --table"):
        run_main(backfill_main, *asked[:5], "--table_keys=query")
