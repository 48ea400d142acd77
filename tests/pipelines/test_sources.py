"""Readers: the mapping of each log format on a few rows written by hand, and files that are broken or not there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvr.errors import CvrError
from pipelines.sources import canonical, expedia2013, names, source, trivago2019
from tests.pipelines.logs import T0, done, shown, write_jsonl, write_log

SECONDS = T0 // 1000


def test_sources_are_found_by_module_name() -> None:
    assert names() == ["canonical", "expedia2013", "trivago2019"]
    assert source("canonical") is canonical
    with pytest.raises(
        CvrError, match="--source=nowhere: no such source; there are canonical, expedia2013, trivago2019"
    ):
        source("nowhere")


# trivago2019 ------------------------------------------------------------------------------------------------------------------


def _session(
    *rows: tuple[int, int, str, str, str | None, str | None], user: str = "u", session: str = "x"
) -> list[dict[str, Any]]:
    """Rows of one session: (second, step, action, reference, impressions, prices)."""
    keys = ("timestamp", "step", "action_type", "reference", "impressions", "prices")
    static = {
        "user_id": user,
        "session_id": session,
        "platform": "FR",
        "city": "Paris",
        "device": "mobile",
        "current_filters": None,
    }
    return [{**static, **dict(zip(keys, (SECONDS + row[0], *row[1:]), strict=True))} for row in rows]


def _trivago(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(engagements, impressions) that the reader makes of rows."""
    path = tmp_path / "sessions.parquet"
    columns = {name: [row[name] for row in rows] for name in trivago2019.COLUMNS}
    numbers = ("timestamp", "step")
    pq.write_table(
        pa.table({k: pa.array(v, pa.int64() if k in numbers else pa.string()) for k, v in columns.items()}), path
    )
    tables = dict(trivago2019.read(trivago2019.find(str(path))[0], {}))
    return tables["engagements"].to_pylist(), tables["impressions"].to_pylist()


SESSION = _session(
    (0, 1, "search for destination", "Paris, France", None, None),
    (5, 2, "interaction item image", "11", None, None),
    (5, 3, "change of sort order", "price only", None, None),
    (5, 4, "clickout item", "12", "11|12|13", "50|70|60"),
    (9, 5, "search for item", "no number", None, None),
    (20, 6, "clickout item", "14", "14|11", "90|55"),
)


def test_trivago_engagements(tmp_path: Path) -> None:
    events, _ = _trivago(tmp_path, SESSION)
    found = [(e["time"] - T0, e["event"], e["item_id"], e["search_id"]) for e in events]
    assert found == [
        (5000, "interaction_image", "11", None),
        (5002, "clickout", "12", "u-x-4"),
        (20000, "clickout", "14", "u-x-6"),
    ]


def test_trivago_impressions_hold_what_was_known_before_the_clickout(tmp_path: Path) -> None:
    _, rows = _trivago(tmp_path, SESSION)
    assert [(r["search_id"], r["item_id"], r["position"], r["price"]) for r in rows] == [
        ("u-x-4", "11", 1, 50.0), ("u-x-4", "12", 2, 70.0), ("u-x-4", "13", 3, 60.0), ("u-x-6", "14", 1, 90.0), ("u-x-6", "11", 2, 55.0),
    ]  # fmt: skip
    first, second = rows[0], rows[3]
    assert (first["time"], first["session_step"], first["last_action"], first["sort_order"]) == (
        T0 + 5002,
        3,
        "change of sort order",
        "price only",
    )
    assert (first["session_age"], first["last_gap"], first["session_number"], first["user_step"]) == (
        5.002,
        0.001,
        1,
        3,
    )
    assert (first["query"], first["lists_before"], first["same_list"]) == ("Paris, France", 0, 0.0)
    assert (second["last_action"], second["lists_before"], second["mean_price"], second["min_price"]) == (
        "search for item",
        1,
        72.5,
        55.0,
    )
    assert [(r["previous_position"], r["previous_price"]) for r in rows] == [(None, None)] * 4 + [(1.0, 50.0)]


def test_trivago_rows_of_one_second_keep_their_order_whatever_the_file_s(tmp_path: Path) -> None:
    events, rows = _trivago(tmp_path, SESSION)
    again_events, again_rows = _trivago(tmp_path, [SESSION[i] for i in (0, 3, 1, 2, 5, 4)])
    assert (events, rows) == (again_events, again_rows)


def test_trivago_sessions_of_a_user_are_numbered_and_do_not_mix(tmp_path: Path) -> None:
    other = _session((100, 1, "clickout item", "11", "11|15", "40|41"), session="y")
    _, rows = _trivago(tmp_path, SESSION + other)
    last = rows[-2:]
    assert [r["session_number"] for r in last] == [2, 2]
    assert [(r["session_step"], r["last_action"], r["sort_order"], r["lists_before"]) for r in last] == [
        (0, None, None, 0)
    ] * 2
    assert [r["previous_position"] for r in last] == [2.0, None]


def test_trivago_duplicates_and_gaps_in_a_list(tmp_path: Path) -> None:
    _, rows = _trivago(tmp_path, _session((0, 1, "clickout item", "11", "11||11|12", "50||60|x")))
    assert [(r["item_id"], r["position"], r["price"]) for r in rows] == [("11", 1, 50.0), ("12", 4, None)]


def test_trivago_filters_are_counted(tmp_path: Path) -> None:
    rows = _session((0, 1, "clickout item", "11", "11", "50"), (1, 2, "clickout item", "11", "11", "50"))
    rows[1]["current_filters"] = "Hotel|Sort by Price"
    _, found = _trivago(tmp_path, rows)
    assert [(r["current_filters"], r["filter_count"], r["same_list"]) for r in found] == [
        (None, 0, 0.0),
        ("Hotel|Sort by Price", 2, 1.0),
    ]


def test_trivago_csv_gives_the_same_as_parquet(tmp_path: Path) -> None:
    expected = _trivago(tmp_path, SESSION)
    lines = [",".join(trivago2019.COLUMNS)]
    for row in SESSION:
        lines.append(",".join("" if row[name] is None else f'"{row[name]}"' for name in trivago2019.COLUMNS))
    path = tmp_path / "sessions.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    tables = dict(trivago2019.read(trivago2019.find(str(path))[0], {}))
    assert (tables["engagements"].to_pylist(), tables["impressions"].to_pylist()) == expected


def test_trivago_without_a_column(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"user_id": ["u"], "step": [1]}), path)
    with pytest.raises(CvrError, match=r"s.parquet: lacks the column\(s\) session_id, timestamp"):
        trivago2019.columns(trivago2019.find(str(path))[0])


# expedia2013 ------------------------------------------------------------------------------------------------------------------

EXPEDIA = """srch_id,date_time,prop_id,position,price_usd,click_bool,booking_bool,comp1_rate
1,2026-01-01 00:00:10,893,2,104.77,1,0,NULL
1,2026-01-01 00:00:10,104,1,170.74,1,1,-1
2,2026-01-01 00:01:00,893,1,99,0,0,
"""


def test_expedia_rows_are_impressions_and_their_flags_engagements(tmp_path: Path) -> None:
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(EXPEDIA.encode()))
    file = expedia2013.find(str(path))[0]
    assert {"price_usd", "search_id"} <= expedia2013.columns(file)["impressions"]
    tables = list(expedia2013.read(file, {"impressions": {"price_usd", "comp1_rate", "absent"}}))
    rows = tables[0][1].to_pylist()
    assert [
        (r["search_id"], r["time"] - T0, r["item_id"], r["position"], r["price_usd"], r["comp1_rate"], r["customer_id"])
        for r in rows
    ] == [
        ("1", 10_000, "893", "2", "104.77", None, None),
        ("1", 10_000, "104", "1", "170.74", "-1", None),
        ("2", 60_000, "893", "1", "99", None, None),
    ]
    events = [(e["event"], e["item_id"], e["search_id"], e["time"] - T0) for _, t in tables[1:] for e in t.to_pylist()]
    assert events == [("click", "893", "1", 10_000), ("click", "104", "1", 10_000), ("booking", "104", "1", 10_000)]


def test_expedia_cut_off_file_and_missing_column(tmp_path: Path) -> None:
    whole = gzip.compress(EXPEDIA.encode() * 500)
    path = tmp_path / "train.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CvrError, match="train.csv.gz: the file is cut off"):
        list(expedia2013.read(expedia2013.find(str(path))[0], {}))
    path.write_bytes(gzip.compress(b"srch_id,price_usd\n1,2\n"))
    with pytest.raises(CvrError, match=r"lacks the column\(s\) date_time, prop_id, position, click_bool, booking_bool"):
        expedia2013.columns(expedia2013.find(str(path))[0])


# canonical --------------------------------------------------------------------------------------------------------------------


def _tables(folder: Path, wanted: dict[str, set[str]] | None = None) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for file in canonical.find(str(folder)):
        for name, table in canonical.read(file, wanted or {}):
            found.setdefault(name, []).extend(table.to_pylist())
    return found


def test_canonical_parquet_and_jsonl_give_the_same(tmp_path: Path) -> None:
    rows, events = shown("s", 0, ["a", "b"], price=1.5), [done("click", 5, "a", search_id="s", event_id="e")]
    write_log(tmp_path / "parquet", rows, events, [{"item_id": "a", "title": "x", "stock": 1.0}])
    for name, content in (
        ("impressions", rows),
        ("engagements", events),
        ("items", [{"item_id": "a", "title": "x", "stock": 1.0}]),
    ):
        write_jsonl(tmp_path / "jsonl", name, content)
    wanted = {"impressions": {"price"}, "items": {"title"}}
    assert _tables(tmp_path / "parquet", wanted) == _tables(tmp_path / "jsonl", wanted)
    assert _tables(tmp_path / "jsonl", wanted)["items"] == [{"item_id": "a", "title": "x"}]


def test_a_jsonl_row_of_another_type_or_without_sense_spoils_only_itself(tmp_path: Path) -> None:
    rows = shown("s", 0, ["a", "b"])
    rows[1]["time"] = "yesterday"
    path = write_jsonl(tmp_path, "impressions", rows)
    path.write_text(path.read_text() + "{broken\n[1]\n")
    write_jsonl(tmp_path, "engagements", [done("click", 1, "a")])
    found = _tables(tmp_path)["impressions"]
    assert [row["time"] for row in found] == [str(T0), "yesterday", None, None]


def test_jsonl_columns_are_known_before_reading(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, "impressions", [{"a": 1}, {"b": 2}])
    assert canonical.columns(canonical.InputFile(str(path), "impressions")) == {"impressions": {"a", "b"}}


def test_gzipped_jsonl(tmp_path: Path) -> None:
    write_jsonl(tmp_path, "engagements", [done("click", 1, "a")])
    (tmp_path / "impressions").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in shown("s", 0, ["a"]))
    (tmp_path / "impressions" / "part.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert _tables(tmp_path)["impressions"][0]["item_id"] == "a"


def test_missing_folder_table_and_truncated_parquet(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="no such folder"):
        canonical.find(str(tmp_path / "nowhere"))
    write_jsonl(tmp_path, "impressions", shown("s", 0, ["a"]))
    with pytest.raises(CvrError, match="no engagements/"):
        canonical.find(str(tmp_path))
    log = write_log(tmp_path / "log", shown("s", 0, ["a"] * 50), [])
    path = log / "impressions" / "part.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CvrError, match=r"part.parquet: cannot be read, it may be cut off"):
        canonical.columns(canonical.find(str(log))[0])
