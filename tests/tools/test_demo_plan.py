"""Which stages a demo run has, with which commands, and the input that it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvr.errors import CvrError
from tools.demo_plan import SOURCES, Choices, check, split_times, stages

DAY = 86_400_000


def _choices(source: str = "synthetic", given: str | None = None, **settings: str | None) -> Choices:
    return Choices(source, given, Path("runs/try"), dataclasses.replace(SOURCES[source], **settings), ("--days=5",))


def test_synthetic_stages_pass_their_folders_on() -> None:
    commands = {stage.name: stage.arguments for stage in stages(_choices())}
    assert list(commands) == ["make_logs", "build_lists", "backfill", "validate", "train", "evaluate", "export", "parity"]
    assert "--output=runs/try/lists-built" in commands["build_lists"]
    assert {"--lists=runs/try/lists-built", "--output=runs/try/lists", "--end=2026-01-11"} <= set(commands["backfill"])
    assert commands["make_logs"] == ("tools.make_logs", "--output=runs/try/logs", "--days=5")
    assert {"--source=canonical", "--input=runs/try/logs"} <= set(commands["build_lists"])
    assert "--lists=runs/try/lists" in commands["train"] and "--run=runs/try/model" in commands["export"]


def test_real_logs_are_not_made() -> None:
    commands = {stage.name: stage.arguments for stage in stages(_choices("trivago2019", "sessions.parquet"))}
    assert "make_logs" not in commands and "backfill" not in commands
    assert {"--source=trivago2019", "--input=sessions.parquet"} <= set(commands["build_lists"])


def test_logs_that_begin_after_the_launch_need_no_backfill(tmp_path: Path) -> None:
    choices = dataclasses.replace(_choices(), folder=tmp_path)
    (tmp_path / "logs" / "impressions").mkdir(parents=True)
    (tmp_path / "logs" / "impressions" / "2026-01-11.parquet").touch()
    commands = {stage.name: stage.arguments for stage in stages(choices)}
    assert "backfill" not in commands and f"--output={tmp_path}/lists" in commands["build_lists"]


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("synthetic", "logs", "leave --input out"),
        ("trivago2019", None, "make demo SOURCE=trivago2019 INPUT="),
        ("expedia2013", "absent.csv.gz", "--input=absent.csv.gz does not exist"),
    ],
)
def test_input_that_does_not_fit_the_source(source: str, given: str | None, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        check(_choices(source, given))


def _write_logs(folder: Path) -> None:
    """Ten searches of two items, one a day from 1970-01-02 on; the last one as JSON lines."""
    (folder / "impressions").mkdir(parents=True)
    days = [day for day in range(1, 10) for _ in range(2)]
    table = pa.table({"search_id": [f"s{day}" for day in days], "time": [day * DAY for day in days]})
    pq.write_table(table, folder / "impressions" / "a.parquet")
    lines = [json.dumps({"search_id": "s10", "time": 10 * DAY, "item_id": "i"}) for _ in range(2)]
    (folder / "impressions" / "b.jsonl").write_text("\n".join(lines))


SPEC = """
dataset: tiny
tasks:
  purchase: {events: [purchase], window: 3d, primary: true}
  click: {events: [click], window: 9d, censor: false}
features:
  price: {kind: numerical, level: item, from: impression.price}
"""


def _canonical(folder: Path, spec: str = SPEC, **settings: str) -> Choices:
    _write_logs(folder)
    (folder / "spec.yaml").write_text(spec)
    return _choices("canonical", str(folder), spec=str(folder / "spec.yaml"), **settings)


def test_canonical_logs_are_split_by_time(tmp_path: Path) -> None:
    """Days 1 to 7 of ten are mature; 70 % of these come before validation (index 0.7 * 6 = 4.2), 85 % (5.1) before test."""
    assert split_times(_canonical(tmp_path)) == ("1970-01-06T00:00:00", "1970-01-07T00:00:00")


def test_given_times_win(tmp_path: Path) -> None:
    assert split_times(_canonical(tmp_path, test_from="1970-01-11")) == ("1970-01-06T00:00:00", "1970-01-11")


def test_logs_shorter_than_a_window_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="longest attribution window .*, 30 days.*longer logs"):
        split_times(_canonical(tmp_path, SPEC.replace("window: 3d", "window: 30d")))


def test_a_folder_without_impressions_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="docs/log_format.md"):
        split_times(_choices("canonical", str(tmp_path)))
