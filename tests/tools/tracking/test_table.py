"""Result tables: what is written is read, and what cannot be is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from cvr.errors import CvrError
from tools.tracking.table import ResultRow, read_results, write_results

ROW = ResultRow("backbone", "cross=64", "cross_width", 64, 0, "purchase", "map", 0.5, 100, 1e6, 2000, 512, 30.0, 1e4)


def test_rows_come_back_from_parquet_and_from_csv(tmp_path: Path) -> None:
    both = dataclasses.replace(ROW, axis="factorial", raised="a+b", level=3, evaluation="e/1")
    rows = [ROW, both, dataclasses.replace(ROW, seed=1, base=True)]
    path = write_results(tmp_path / "results.parquet", rows)
    expected = [rows[0], dataclasses.replace(rows[1], evaluation=str(tmp_path / "e/1")), rows[2]]
    assert read_results(path) == expected
    assert read_results(path.with_suffix(".csv"))[0] == ROW
    assert expected[1].factors == {"a", "b"} and ROW.factors == frozenset()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": float("nan")}, "map is nan"),
        ({"level": 0}, "level is 0"),
        ({"raised": "a"}, "only rows"),
        ({"table_bytes": -1}, "table_bytes"),
    ],
)
def test_an_impossible_row_is_refused(change: dict, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        dataclasses.replace(ROW, **change)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="two rows for study backbone, cross_width=64"):
        write_results(tmp_path / "results.parquet", [ROW, dataclasses.replace(ROW, value=0.6)])
    with pytest.raises(CvrError, match="without rows"):
        write_results(tmp_path / "results.parquet", [])
    with pytest.raises(CvrError, match="ends in .parquet"):
        write_results(tmp_path / "results.csv", [ROW])
    pd.DataFrame([dataclasses.asdict(ROW)]).drop(columns="value").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(CvrError, match=r"a\.csv: the table lacks value"):
        read_results(tmp_path / "a.csv")
    with pytest.raises(CvrError, match="no result table"):
        read_results(tmp_path / "none.parquet")
