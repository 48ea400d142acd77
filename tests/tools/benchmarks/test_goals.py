"""Figures, goals and the sizing of a year, worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from tools.benchmarks import sizing
from tools.benchmarks.goals import Goal, goals
from tools.benchmarks.measure import Run
from tools.benchmarks.summary import Result, Spread, Startup, result_of, startup_of
from tools.benchmarks.variants import Cell

MILLION = 1_000_000


def _run(main_wall: float, main_cpu: float, peak: int = 100, shuffle: int = 0) -> Run:
    """A run with 8 s of imports, 7 of them CPU time."""
    return Run("x", main_wall + 8, main_cpu + 7, 8.0, 7.0, main_wall, main_cpu, peak, shuffle, 600, 0.0)


def _result(variant: str, asked: int, rate: float, cpu: float = 1_000, peak: float = 0, whole: float | None = None) -> Result:
    one = Spread(0, 0, 0)
    return Result(
        variant=variant, asked=asked, events=asked, impressions=asked * 5 // 6, lists=asked // 30, repeats=1,
        rate=Spread(rate, rate, rate), whole_rate=Spread(whole or rate, 0, 0), cpu=one, cpu_per_event=Spread(cpu, cpu, cpu),
        peak=Spread(peak / 2, peak / 2, peak), shuffle=50.0, side=10.0, output=900.0, unclear=False,
    )  # fmt: skip


def test_start_up_is_taken_off() -> None:
    startup = startup_of([_run(1.0, 0.5), _run(3.0, 2.5), _run(2.0, 1.5)])
    assert (startup.wall, startup.main_wall, startup.main_cpu) == (10.0, 2.0, 1.5)
    runs = [_run(4.0, 2.5, 300, 6_000), _run(7.0, 3.5, 500, 6_000), _run(6.0, 4.5, 400, 6_000)]
    found = result_of(Cell("full", 100), {"impressions": 80, "engagements": 20, "searches": 4}, runs, 800, {"full": startup})
    assert found.rate == Spread(100 / 4, 100 / 5, 100 / 2)  # 4 - 2, 7 - 2, 6 - 2 s
    assert found.whole_rate == Spread(100 / 14, 100 / 15, 100 / 12)
    assert found.cpu_per_event == Spread(2e9 / 100, 1e9 / 100, 3e9 / 100)
    assert found.cpu == Spread(10.5, 9.5, 11.5)
    assert found.peak == Spread(400, 300, 500)
    assert (found.shuffle, found.side, found.output, found.unclear) == (60.0, 6.0, 200.0, False)


def test_a_log_that_is_too_small_is_said_to_be() -> None:
    startup = Startup(10, 10, 2.0, 2.0, 0)
    found = result_of(
        Cell("full-hot", 100), {"impressions": 80, "engagements": 20, "searches": 4}, [_run(2.0, 3.0)], 1, {"full": startup}
    )
    assert found.unclear
    assert found.rate.median == 100 / 0.02  # a hundredth of the two seconds


def _reached(found: list[Result]) -> dict[str, Goal]:
    return {goal.name: goal for goal in goals(found)}


def test_goals_that_are_met_and_missed() -> None:
    ten, gib = 10 * MILLION, 2**30
    found = _reached(
        [
            _result("plain", 300_000, 40_000),
            _result("attribution", 300_000, 500_000),
            _result("attribution", MILLION, 900_000, cpu=1_000),
            _result("attribution", ten, 960_000, cpu=1_150, peak=1.5 * gib, whole=480_000),
            _result("duckdb", ten, 1_600_000, whole=1_500_000),
            _result("full", MILLION, 310_000, cpu=3_000),
            _result("full", ten, 299_999, cpu=3_600, peak=1.6 * gib),
            _result("full-hot", ten, 200_000, peak=1.4 * gib),
        ]
    )
    reached = {name: (None if goal.reached is None else round(goal.reached, 3), goal.met) for name, goal in found.items()}
    assert reached == {
        "rate of the plain design, 0.3M events": (12.5, True),
        "rate of DuckDB, 10M events, start-up taken off both": (0.6, True),
        "rate of DuckDB, 10M events, whole processes": (0.32, False),
        "full job, 10M events": (299_999, False),
        "CPU per event at 10M against 1M, start-up taken off, attribution": (1.15, True),
        "CPU per event at 10M against 1M, start-up taken off, full": (1.2, False),
        "peak memory at 10M, attribution": (1.5, True),
        "peak memory at 10M, full": (1.6, False),
        "peak memory at 10M, attribution-hot": (None, None),
        "peak memory at 10M, full-hot": (1.4, True),
    }


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {goal.met for goal in goals([_result("attribution", MILLION, 9e9)])} == {None}


def test_a_year_at_a_billion_impressions_a_day() -> None:
    result = _result("full", 6 * MILLION, 300_000, cpu=3_600)  # 3.6 CPU s per million events
    load = sizing.Load(days=365, impressions_per_day=10**9, events_per_impression=1.2)
    found = sizing.size(result, load)
    assert load.million_events == pytest.approx(438_000)
    assert found.core_hours == pytest.approx(438)  # 438,000 * 3.6 / 3,600
    assert found.shuffle_bytes == pytest.approx(438e9 * 60)  # 50 shuffled, 10 of side inputs
    assert found.record_bytes == pytest.approx(438e9 / 30 * 900)
    assert found.partitions == pytest.approx(2_190_000)
    assert found.hours(10) == pytest.approx(438 / 112)  # 10 workers * 16 cores * 0.7
    assert found.disk_per_worker(10) == pytest.approx(438e9 * 6)
    lines = "\n".join(sizing.explain(result))
    assert "= 438,000 million" in lines and "= 438 core hours; a day 1.2" in lines and "= 26.3 TB" in lines


def test_the_largest_size_is_extrapolated() -> None:
    results = [_result("full", MILLION, 1), _result("full", 3 * MILLION, 2), _result("plain", 9 * MILLION, 3)]
    assert sizing.largest(results, "full") == results[1]
    assert sizing.largest(results, "duckdb") is None
    assert dataclasses.replace(results[0], events=5) != results[0]
