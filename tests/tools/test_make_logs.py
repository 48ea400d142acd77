"""The folder that tools.make_logs writes: layout, reproducibility, publishing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq
import pytest

from cvr.errors import CvrError
from cvr.schema import load_spec
from tools.synthetic.generate import generate
from tools.synthetic.settings import DAY, Settings
from tools.synthetic.write import finished_folder

SMALL = {
    "days": 4,
    "searches_per_day": 150,
    "customers": 60,
    "items": 240,
    "queries": 40,
    "seed": 3,
    "feature_launch_day": 2,
}


def make(folder: Path, file_format: str = "parquet", **changes: object) -> Path:
    folder.mkdir(parents=True)
    generate(Settings(**{**SMALL, **changes}), folder, file_format)  # type: ignore[arg-type]
    return folder


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("synthetic") / "logs")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_columns_have_the_documented_types(logs: Path) -> None:
    impressions = pq.read_schema(logs / "impressions" / "2026-01-03.parquet")
    text = {
        "search_id",
        "customer_id",
        "item_id",
        "query",
        "domain",
        "session_id",
        "query_category",
        "customer_segment",
    }
    numbers = {"time": pa.int64(), "position": pa.int32(), "in_stock": pa.int32(), "review_count": pa.int32()}
    floats = dict.fromkeys(("price", "review_score", "match_score", "semantic_score"), pa.float32())
    wanted = {**dict.fromkeys(text, pa.string()), **numbers, **floats}
    assert dict(zip(impressions.names, impressions.types, strict=True)) == wanted
    engagements = pq.read_schema(logs / "engagements" / "2026-01-01.parquet")
    names = ["time", "customer_id", "item_id", "event", "search_id", "domain", "event_id"]
    assert engagements.names == names
    assert engagements.types == [pa.int64()] + [pa.string()] * 6


def test_lists_are_whole(logs: Path) -> None:
    rows = read(logs / "impressions")
    lists = rows.groupby("search_id")
    assert lists.ngroups == 4 * (150 + 30)
    size = lists.size()
    assert size.max() <= 40 and size.min() >= 2 and 10 <= size.median() <= 20
    assert (lists["position"].min() == 1).all() and (lists["position"].max() == size).all()
    assert (lists["item_id"].nunique() == size).all(), "an item stands once in a list"
    assert (lists[["time", "query", "customer_id", "customer_segment"]].nunique(dropna=False) == 1).all(axis=None)


def test_each_file_holds_its_day(logs: Path) -> None:
    for day in range(4):
        start = Settings(**SMALL).day_start(day)
        shown = pd.read_parquet(logs / "impressions" / f"2026-01-0{day + 1}.parquet")["time"]
        assert shown.between(start, start + DAY - 1).all() and shown.is_monotonic_increasing
        happened = pd.read_parquet(logs / "engagements" / f"2026-01-0{day + 1}.parquet")["time"]
        late = (happened < start).mean()
        assert (happened < start + DAY).all() and late < 0.1


def test_launched_feature_is_absent_before_its_day(logs: Path) -> None:
    there = [
        "semantic_score" in pq.read_schema(path).names for path in sorted((logs / "impressions").glob("*.parquet"))
    ]
    assert there == [False, False, True, True]


def test_the_feature_table_knows_every_score_before_the_day_s_searches(logs: Path) -> None:
    for day in range(4):
        name = f"2026-01-0{day + 1}.parquet"
        table = pd.read_parquet(logs / "feature_tables" / "semantic_score" / name)
        rows = pd.read_parquet(logs / "impressions" / name).query("domain == 'search'")
        assert not table.duplicated(["query", "item_id"]).any()
        joined = rows.merge(table, on=["query", "item_id"], how="left", suffixes=("", "_known"))
        assert len(joined) == len(rows) and (joined["time_known"] < joined["time"].min()).all()
        if day >= 2:  # launched
            assert (joined["semantic_score"] == joined["semantic_score_known"]).all()
        else:
            assert joined["semantic_score"].notna().all()


def test_feed_lists_have_no_query(logs: Path) -> None:
    rows = read(logs / "impressions")
    feed = rows[rows["domain"] == "feed"]
    assert feed["search_id"].nunique() == 4 * 30
    assert feed[["query", "query_category", "match_score"]].isna().all(axis=None)
    assert rows[rows["domain"] == "search"][["query", "query_category", "match_score"]].notna().all(axis=None)
    assert set(read(logs / "engagements")["domain"]) == {"search", "feed"}


def test_same_flags_give_the_same_bytes_and_more_days_keep_the_earlier_ones(logs: Path, tmp_path: Path) -> None:
    first = contents(logs)
    assert contents(make(tmp_path / "again")) == first
    longer = contents(make(tmp_path / "longer", days=5))
    summaries = {"truth/config.json", "truth/shares.json"}
    assert {name: data for name, data in longer.items() if name in first and name not in summaries} == {
        name: data for name, data in first.items() if name not in summaries
    }
    other = contents(make(tmp_path / "other", seed=4))
    assert other["impressions/2026-01-01.parquet"] != first["impressions/2026-01-01.parquet"]


def test_json_lines_hold_the_same_rows(logs: Path, tmp_path: Path) -> None:
    lines = make(tmp_path / "lines", file_format="jsonl")
    for table, key in (
        ("impressions", ["search_id", "position"]),
        ("engagements", ["event_id", "time"]),
        ("items", ["item_id"]),
    ):
        written = [pa_json.read_json(path).to_pandas() for path in sorted((lines / table).glob("*.jsonl"))]
        got = pd.concat(written, ignore_index=True).sort_values(key, kind="stable", ignore_index=True)
        want = read(logs / table).sort_values(key, kind="stable", ignore_index=True)
        pd.testing.assert_frame_equal(got[list(want)], want, check_dtype=False, rtol=1e-5)


def test_the_spec_reads_only_columns_that_exist(logs: Path, project_root: Path) -> None:
    spec = load_spec(project_root / "configs" / "features" / "synthetic.yaml")
    columns = {
        "impression": set(pq.read_schema(logs / "impressions" / "2026-01-04.parquet").names),
        "item": set(pq.read_schema(logs / "items" / "items.parquet").names),
    }
    for feature in spec.features.values():
        if feature.column:
            table, column = feature.column.split(".")
            assert column in columns[table], feature.name
    events = {event for task in spec.tasks.values() for event in task.events}
    assert events == set(read(logs / "engagements")["event"])
    launch = spec.features["semantic_score"].introduced_on
    assert launch == Settings().date(Settings().feature_launch_day)


@pytest.mark.parametrize(
    ("name", "value"),
    [("days", 0), ("items", 10), ("seed", -1), ("feed_share", 1.5), ("start_date", "1 May"), ("searches_per_day", 0)],
)
def test_bad_settings_name_their_flag(name: str, value: object) -> None:
    with pytest.raises(CvrError, match=f"--{name}="):
        Settings(**{**SMALL, name: value})  # type: ignore[arg-type]


def test_a_finished_log_is_not_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "logs"
    with finished_folder(output) as folder:
        (folder / "file").write_text("kept")
    with pytest.raises(CvrError, match="already holds something"), finished_folder(output):
        pytest.fail("must not get here")
    assert (output / "file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_an_interrupted_run_leaves_nothing_and_a_killed_one_is_cleared(tmp_path: Path) -> None:
    output = tmp_path / "logs"
    with pytest.raises(KeyboardInterrupt), finished_folder(output) as folder:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    stale = tmp_path / folder.name
    stale.mkdir()
    (stale / "half").write_text("x")
    output.mkdir()  # an empty folder may be there already
    with finished_folder(output) as again:
        assert list(again.iterdir()) == []
        (again / "whole").write_text("y")
    assert [path.name for path in tmp_path.rglob("*")] == ["logs", "whole"]


def command(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.make_logs", *flags], capture_output=True, text=True, check=False
    )


def test_command_line(tmp_path: Path) -> None:
    flags = [
        f"--output={tmp_path / 'logs'}",
        "--days=1",
        "--searches_per_day=20",
        "--customers=5",
        "--items=60",
        "--queries=8",
    ]
    done = command(*flags, "--feed_share=0")
    assert done.returncode == 0, done.stderr
    assert "1 days from 2026-01-01, 20 searches, 0 feed pages" in done.stdout
    again = command(*flags)
    assert again.returncode == 1 and again.stderr.startswith("error: --output=") and "Traceback" not in again.stderr
