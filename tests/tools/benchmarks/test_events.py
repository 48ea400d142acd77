"""The benchmark log: the same flags give the same bytes, and it has the shares that it promises."""

from __future__ import annotations

import collections
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest

from cvr.errors import CvrError
from tools.benchmarks.draws import DAY_MS, START_MS, LogSettings, ascending, zipf
from tools.benchmarks.events import write_log


def _rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return ds.dataset(folder / table).to_table().to_pylist()


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_flags_give_the_same_bytes(tmp_path: Path) -> None:
    settings = LogSettings(events=3_000, days=3, items=500, queries=50, hot=0.3, late=0.1, duplicates=0.1, seed=4)
    write_log(settings, tmp_path / "a")
    write_log(settings, tmp_path / "b")
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    write_log(LogSettings(events=3_000, days=3, items=500, queries=50, seed=5), tmp_path / "c")
    assert _digests(tmp_path / "a") != _digests(tmp_path / "c")


def test_lists_and_shares_are_as_promised(tmp_path: Path) -> None:
    counts = write_log(LogSettings(events=30_000, days=4, items=2_000, queries=200), tmp_path / "log")
    shown, done = _rows(tmp_path / "log", "impressions"), _rows(tmp_path / "log", "engagements")
    assert counts["searches"] == 1_000 and len(shown) == 25_000  # 30,000 * 5/6 = 25,000 impressions, 25 a list
    assert 4_900 <= len(done) <= 5_000  # a sixth, less what happens after the last day
    lists = collections.defaultdict(list)
    for row in shown:
        lists[row["search_id"], row["time"], row["customer_id"], row["query"]].append((row["position"], row["item_id"]))
    assert len(lists) == 1_000 == len({time for _, time, _, _ in lists})
    assert all([place for place, _ in found] == list(range(1, 26)) for found in lists.values())
    assert all(len({item for _, item in found}) == 25 for found in lists.values())
    events = collections.Counter(row["event"] for row in done)
    assert events["click"] / len(done) == pytest.approx(0.72, abs=0.02)
    assert events["cart"] / len(done) == pytest.approx(0.20, abs=0.02)
    items = collections.Counter(row["item_id"] for row in shown)
    top = sum(count for _, count in items.most_common(100))
    assert top / len(shown) > 0.25 and len(items) > 1_000  # 5 % of the items have more than a quarter of the impressions
    assert json.loads((tmp_path / "log" / "log.json").read_text())["counts"] == counts


def test_one_customer_can_have_a_third_of_all_events(tmp_path: Path) -> None:
    write_log(LogSettings(events=30_000, days=2, items=2_000, queries=200, hot=0.3), tmp_path / "log")
    for table in ("impressions", "engagements"):
        customers = collections.Counter(row["customer_id"] for row in _rows(tmp_path / "log", table))
        ranked = customers.most_common(2)
        assert ranked[0][0] == "c0" and ranked[0][1] / customers.total() == pytest.approx(0.3, abs=0.05)
        assert ranked[1][1] / customers.total() < 0.1


def test_late_and_duplicate_engagements(tmp_path: Path) -> None:
    write_log(LogSettings(events=30_000, days=3, items=500, queries=50, late=0.2, duplicates=0.1), tmp_path / "log")
    late = 0
    ids: collections.Counter[str] = collections.Counter()
    files = sorted((tmp_path / "log" / "engagements").iterdir())
    for day, file in enumerate(files):
        for row in ds.dataset(file).to_table().to_pylist():
            own = (row["time"] - START_MS) // DAY_MS
            assert own in (day - 1, day)
            late += own == day - 1
            ids[row["event_id"]] += 1
    twice = sum(count == 2 for count in ids.values())
    assert max(ids.values()) == 2 and twice / len(ids) == pytest.approx(0.1, abs=0.02)
    # 20 % of the events of two of three days, and half of the 10 % copies of these: about 0.25 * 2/3.
    assert late / ids.total() == pytest.approx((0.2 + 0.05) / 1.1 * 2 / 3, abs=0.03)


def test_ranks_follow_zipf_and_ascending_moves_little() -> None:
    ranks = zipf((np.arange(100_000) + 0.5) / 100_000, 1_000, 0.5)
    # density of rank + 1 = x is x^-0.5 / (2 (sqrt(1001) - 1)) on [1, 1001): P(rank < 99) = (sqrt(100) - 1) / (sqrt(1001) - 1)
    assert (ranks < 99).mean() == pytest.approx(9 / (1_001**0.5 - 1), abs=1e-3)
    assert ascending(np.array([0, 0, 3, 3, 9, 9]), 10).tolist() == [0, 1, 3, 4, 8, 9]


@pytest.mark.parametrize(("change", "message"), [({"events": 10}, "--events=10"), ({"hot": 2.0}, "--hot=2.0")])
def test_impossible_numbers_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CvrError, match=message):
        LogSettings(**{"events": 1_000, **change})
