"""All designs of the pipeline benchmark come to the same labels: those worked out by hand, and each other's on a generated log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest

from pipelines.job import build
from pipelines.settings import Settings
from tests.pipelines.logs import DAY, HOUR, done, shown, write_log
from tools.benchmarks import events, labels, plain_beam
from tools.benchmarks.draws import LogSettings
from tools.benchmarks.specs import ATTRIBUTION

DESIGNS = ("lists", "plain", "duckdb", "polars")

Labels = dict[tuple[str, int], tuple[int, int, int]]


def _rows_of(design: str, log: Path, folder: Path) -> pa.Table:
    """Runs a design in this process and reads its items' labels."""
    if design == "lists":
        build(Settings("canonical", str(log), str(folder), ATTRIBUTION, partitions=3, drop_unconverted="none"))
        return labels.of_lists(folder)
    if design == "plain":
        with beam.Pipeline() as pipeline:
            plain_beam.construct(pipeline, str(log), str(folder))
        return labels.of_examples(folder)
    if design == "duckdb":
        pytest.importorskip("duckdb")
        from tools.benchmarks.duckdb_lists import write_lists

        write_lists(str(log), f"{folder}.parquet", threads=1)
    else:
        pytest.importorskip("polars")
        from tools.benchmarks.polars_lists import lists_of

        lists_of(str(log)).sink_parquet(f"{folder}.parquet")
    return labels.of_parquet(folder.with_suffix(".parquet"))


def _labelled(rows: pa.Table) -> Labels:
    return {
        (row["search_id"], row["position"]): (row["click"], row["cart"], row["purchase"])
        for row in rows.to_pylist()
        if row["click"] or row["cart"] or row["purchase"]
    }


def _shown(search: str, time: int, items: list[str], customer: str) -> list[dict[str, Any]]:
    return shown(search, time, items, customer, price=1.0, match_score=0.5)


HAND_LOG = [
    *_shown("s1", 0, ["a", "b", "c"], "u"),
    *_shown("s2", 2 * HOUR, ["c", "a"], "u"),
    *_shown("s3", 1 * HOUR, ["a"], "v"),
]
HAND_EVENTS = [
    done("click", 1 * HOUR, "a", "u"),  # only s1 came before: (s1, 1)
    done("click", 2 * HOUR, "a", "u"),  # at the same millisecond as s2, which is the later of two: (s2, 2)
    done("cart", 2 * HOUR + DAY, "c", "u"),  # the last millisecond of s2's window: (s2, 1)
    done("purchase", DAY, "b", "u"),  # the last millisecond of s1's window: (s1, 2)
    done("purchase", 2 * HOUR + DAY + 1, "a", "u"),  # a millisecond too late for s2, and s1 does not stand in
    done("purchase", 30 * 60_000, "a", "v"),  # before v saw it
    done("purchase", 3 * HOUR, "b", "v"),  # v never saw it
]
HAND_LABELS: Labels = {("s1", 1): (1, 0, 0), ("s2", 2): (1, 0, 0), ("s2", 1): (0, 1, 0), ("s1", 2): (0, 0, 1)}


@pytest.mark.parametrize("design", DESIGNS)
def test_labels_worked_out_by_hand(design: str, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", HAND_LOG, HAND_EVENTS)
    rows = _rows_of(design, log, tmp_path / design)
    assert len(rows) == 6
    assert _labelled(rows) == HAND_LABELS
    assert labels.counts(rows) == {"click": 2, "cart": 1, "purchase": 1}


def test_designs_agree_on_a_generated_log(tmp_path: Path) -> None:
    settings = LogSettings(events=4_000, days=3, items=300, queries=10, customers=8, hot=0.3, late=0.1, duplicates=0.1)
    events.write_log(settings, tmp_path / "log")
    found = {design: _rows_of(design, tmp_path / "log", tmp_path / design) for design in ("lists", "plain", "duckdb")}
    assert {len(rows) for rows in found.values()} == {133 * 25}  # 4,000 * 5/6 / 25 = 133 lists
    assert len({labels.digest(rows) for rows in found.values()}) == 1
    counts = labels.counts_of_lists(tmp_path / "lists")
    assert counts == labels.counts(found["duckdb"]) and min(counts.values()) > 10


def test_a_digest_sees_one_label_and_no_order() -> None:
    rows = [{"search_id": "s", "position": place, "click": 0, "cart": 0, "purchase": 0} for place in (1, 2)]
    there = labels.digest(pa.Table.from_pylist(rows))
    assert labels.digest(pa.Table.from_pylist(rows[::-1])) == there
    rows[1]["cart"] = 1
    assert labels.digest(pa.Table.from_pylist(rows)) != there
