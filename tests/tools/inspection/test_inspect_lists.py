"""The command on a small build: every state in words, names out of the logs, all output formats, errors that help."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cvr.errors import CvrError
from cvr.stored import Selection, StoredLists
from cvr.tables import to_arrow
from cvr.transforms import hash_strings
from tests.commands import run_main
from tools import inspect_lists

Command = Callable[..., str]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m tools.inspect_lists <arguments>`; gives what it prints."""

    def run(*arguments: str) -> str:
        run_main(inspect_lists, *arguments)
        return capsys.readouterr().out

    return run


def _row(text: str, *starts: str) -> list[str]:
    """The cells of the first line that begins with the given words."""
    line = next(line for line in text.splitlines() if line.split()[: len(starts)] == list(starts))
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.parametrize("name", ["lists", "elwc"])
def test_a_list_with_names_from_the_logs(command: Command, both_formats: Path, name: str) -> None:
    text = command(f"--lists={both_formats / name}", "--search_id=s13", f"--logs={both_formats / 'log'}")
    assert text.startswith("list s13\n  2026-01-02 02:00:00.007 UTC, split train, list ")
    assert "3 items; labels: click 1, purchase 0" in text and re.search(r" of 24 \(from 0\), record \d+ of\s+data-", text)
    assert _row(text, "query") == ["query", "text", "q1"] and _row(text, "device") == ["device", "categorical", "phone"]
    assert _row(text, "screen") == ["screen", "categorical", "unknown (phone)"]
    # u3 bought b at 19:00 and clicked it at 16:01 and a at 06:01 the day before.
    events = r"purchase  b, 7 h before\n +click     b, 9 h 59 min before\n +click     a, 19 h 59 min before\n"
    assert re.search(r"recent +sequence +" + events, text)
    assert _row(text, "#", "item", "[click]")[:4] == ["#", "item", "[click]", "[purchase]"]
    assert _row(text, "1", "c")[:4] == ["1", "c", "after 1 min", "-"] and _row(text, "2", "a")[2:4] == ["-", "-"]
    table = [dict(zip(line, cells, strict=True)) for line, cells in _items(text)]
    assert [row["title"] for row in table] == ["empty", "red shoe", "empty"]
    assert [row["words"] for row in table] == ["empty", "red | shoe", "empty"]
    assert [row["stock"] for row in table] == ["0", "3", "missing"] and [row["late"] for row in table] == ["13"] * 3
    assert [row["late_kind"] for row in table] == ["c", "a", "d"]


def _items(text: str) -> list[tuple[list[str], list[str]]]:
    """(names, cells) of each of three items, over all of the list's tables."""
    names, rows = [], [[] for _ in range(3)]
    for block in re.findall(r"^ *#  item.*\n(?: +\d .*\n){3}", text, re.M):
        head, *lines = [re.split(r"\s{2,}", line.strip()) for line in block.splitlines()]
        names += head
        for row, line in zip(rows, lines, strict=True):
            row += line
    return [(names, row) for row in rows]


def test_without_logs_and_before_a_launch(command: Command, both_formats: Path) -> None:
    text = command(f"--lists={both_formats / 'lists'}", "--search_id=s0", "--features=device,query,recent,late,late_history,title")
    short = f"{int(hash_strings(['b']).numpy()[0]):016x}"[:8]
    assert _row(text, "2", short)[1] == short
    assert _row(text, "device")[2] == "empty" and _row(text, "recent")[2] == "empty" and _row(text, "late_history")[2] == "unseen"
    assert _row(text, "query")[2] == "1 n-grams"
    assert [dict(zip(names, cells, strict=True))["late"] for names, cells in _items(text)] == ["unseen"] * 3
    assert "stock" not in text and max(map(len, text.splitlines())) <= 120


def test_the_width_is_kept(command: Command, both_formats: Path) -> None:
    text = command(f"--lists={both_formats / 'lists'}", "--count=0", "--width=70")
    assert max(map(len, text.splitlines())) <= 70 and text.count("\nlist s") + text.startswith("list s") == 24


def test_the_items_table_is_enough_for_items(command: Command, both_formats: Path) -> None:
    lists, items = both_formats / "lists", both_formats / "log" / "items"
    for logs in (items, items / "part.parquet"):
        text = command(f"--lists={lists}", "--search_id=s13", f"--logs={logs}", "--features=title,late_kind,device")
        assert _row(text, "2", "a")[1] == "a" and "red shoe" in text and "phone" not in text
    with pytest.raises(CvrError, match="--logs=.*nothing: no such file or folder"):
        command(f"--lists={lists}", f"--logs={both_formats / 'nothing'}")


def test_json_and_csv_hold_the_same(command: Command, both_formats: Path) -> None:
    common = (f"--lists={both_formats / 'lists'}", "--day=2026-01-02", "--index=2", "--count=5", f"--logs={both_formats / 'log'}")
    found = [json.loads(line) for line in command(*common, "--format=json").splitlines()]
    rows = list(csv.DictReader(io.StringIO(command(*common, "--format=csv", "--features=price,device,recent"))))
    assert len(found) == 5 and {shown["day"] for shown in found} == {"2026-01-02"} and [s["number"] for s in found] == [2, 3, 4, 5, 6]
    assert [row["_search_id"] for row in rows] == [shown["search_id"] for shown in found for _ in shown["items"]]
    first, item = rows[0], found[0]["items"][0]
    assert (first["_item"], float(first["price"])) == (item["item"], item["features"]["price"])
    assert first["device"] == found[0]["context"]["device"]
    clicked = [(row, item) for row, item in zip(rows, (i for s in found for i in s["items"]), strict=True) if item["labels"]["click"]]
    assert clicked and all(float(row["_delay_click"]) == 60 == item["delays"]["click"] / 1000 for row, item in clicked)
    event = next(shown["context"]["recent"][0] for shown in found if shown["context"]["recent"])
    assert f"{event['action']} {event['item']} {event['age']:g}" in {row["recent"].split(" | ")[0] for row in rows}


def test_parquet_holds_the_typed_columns(command: Command, both_formats: Path, tmp_path: Path) -> None:
    lists, output = both_formats / "lists", tmp_path / "items.parquet"
    command(f"--lists={lists}", "--split=test", "--count=0", "--format=parquet", f"--output={output}", "--features=price,screen")
    stored = StoredLists(lists)
    tables = [to_arrow(stored.spec, part.columns) for part in stored.read(Selection("test"))]
    found = pq.read_table(output)
    assert found.num_rows == sum(table.num_rows for table in tables)
    kept = [name for name in tables[0].column_names if name[0] == "_" and name.split("_")[1] not in ("state", "value")]
    assert found.column_names == [*kept, "price", "_state_price", "screen", "_state_screen", "_value_screen"]
    assert found.column("price").to_pylist() == [value for table in tables for value in table.column("price").to_pylist()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split=valid"], "split 'valid' holds no list"),
        (["--search_id=s100"], "'s100' is in no split .* 's10'"),
        (["--search_id=s3", "--split=test"], "in split 'train', day 2026-01-01"),
        (["--search_id=s3", "--index=1"], "give one of them"),
        (["--index=24"], "no list number 24"),
        (["--day=2026-01-03"], "no list of day 2026-01-03"),
        (["--features=prize"], "no such feature; like it: price"),
        (["--format=parquet"], "needs --output"),
        (["--output=."], "--output=. exists"),
    ],
)
def test_errors_say_what_there_is(command: Command, both_formats: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(CvrError, match=message):
        command(f"--lists={both_formats / 'lists'}", *arguments)
