"""Steps from planted curves: their gains and costs, what is refused, and the order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr.errors import CvrError
from tests.tools.planning.planted import rows_of
from tools.planning.axes import Axis, axes_of
from tools.planning.cells import Draws
from tools.planning.steps import Budget, Step, ranked, steps_of
from tools.tracking.table import ResultRow

NO_LIMITS = Budget()


def _axis(rows: list[ResultRow]) -> Axis:
    (found,) = axes_of(rows, Draws(1000))
    return found


def _step(rows: list[ResultRow], factor: float = 2, budget: Budget = NO_LIMITS) -> Step:
    (found,) = steps_of(_axis(rows), [factor], budget, lambda ratio: 10 * ratio)
    return found


def _line(slope: float = 0.01, noise: float = 1e-4, levels: tuple[float, ...] = (64, 128, 256, 512)) -> list[ResultRow]:
    return rows_of("width", levels, lambda x: 0.5 + slope * np.log2(x / 64), noise=noise)


def test_a_step_gains_its_slope_and_costs_what_was_measured() -> None:
    step = _step(_line())
    assert step.name == "double width (64 to 128)" and step.basis == "curve" and not step.against and not step.extrapolated
    assert step.gain == pytest.approx(0.01, abs=2e-4) and step.relative == pytest.approx(0.02, abs=5e-4)
    assert step.interval is not None and step.interval[0] < step.gain < step.interval[1]
    assert (step.then.flops_per_item, step.then.memory_bytes, step.then.p99_ms) == (pytest.approx(2e6), 8000, pytest.approx(20))
    assert step.then.training_seconds == pytest.approx(100 * 2**0.5)
    assert step.per("flops_per_item") == pytest.approx(step.gain) and step.per("training_seconds") == pytest.approx(2 * step.gain)


@pytest.mark.parametrize(
    ("budget", "word"),
    [
        (Budget(flops_per_item=1.9e6), "flops_per_item 2e+06 of 1.9e+06"),
        (Budget(training_seconds=141), "training_seconds"),
        (Budget(memory_bytes=7999), "memory_bytes"),
        (Budget(p99_ms=19), "p99_ms 20 of 19"),
        (Budget(2.1e6, 142, 8000, 21), ""),
    ],
)
def test_budgets_refuse_what_costs_more(budget: Budget, word: str) -> None:
    against = "; ".join(_step(_line(), budget=budget).against)
    assert word in against and bool(against) == bool(word)


def test_a_flat_axis_and_one_that_loses_are_refused() -> None:
    assert _step(_line(slope=0.0, noise=0.001)).against == ("the interval includes 0",)
    assert _step(_line(slope=-0.01)).against == ("it loses",)


def test_one_doubling_beyond_the_range_is_marked_and_more_is_refused() -> None:
    once, more = _step(_line(), 16), _step(_line(), 16.5)
    assert once.extrapolated and not once.against and once.gain == pytest.approx(0.04, abs=1e-3)
    assert once.then.flops_per_item == pytest.approx(16e6)
    assert more.against == ("beyond the measured range: more than one doubling past 512",) and np.isnan(more.gain)


def test_a_curve_that_misses_its_last_level_counts_only_where_levels_were_measured() -> None:
    peak = {64: 0.50, 128: 0.51, 256: 0.52, 512: 0.40}
    rows = rows_of("width", list(peak), lambda x: peak[int(x)], noise=1e-4)
    within, beyond = steps_of(_axis(rows), [2, 16], Budget(), None)
    assert within.basis == "measured" and within.gain == pytest.approx(0.01, abs=3e-4) and not within.against
    assert "the curve missed its last level, and this one was not measured" in beyond.against


def test_too_little_evidence_is_refused() -> None:
    assert axes_of(rows_of("width", [64], lambda x: 0.5), Draws()) == []
    assert _step(rows_of("width", [64, 128, 256], lambda x: x / 1000, seeds=1)).against[0].startswith("no interval")
    assert "which nothing checks" in _step(_line(levels=(64, 128)), 4).against[0]


def test_a_step_that_costs_nothing_comes_first_and_refused_ones_last() -> None:
    flat_cost = rows_of("days", [10, 20, 40], lambda x: 0.5 + 0.001 * np.log2(x), noise=1e-5, flops=0.0)
    steps = [*steps_of(_axis(_line()), [2, 16.5], Budget(), None), *steps_of(_axis(flat_cost), [2], Budget(), None)]
    assert [step.axis for step in ranked(steps, "flops_per_item")] == ["days", "width", "width"]
    assert [step.axis for step in ranked(steps, "gain")] == ["width", "days", "width"]
    assert ranked(steps, "gain")[-1].end == 64 * 16.5


def test_the_base_must_be_marked_at_one_level() -> None:
    rows = _line()
    with pytest.raises(CvrError, match="axis width: the base is not among them"):
        axes_of([dataclasses.replace(row, base=False) for row in rows], Draws())
    with pytest.raises(CvrError, match="marked at the levels 64, 128, 256, 512"):
        axes_of([dataclasses.replace(row, base=True) for row in rows], Draws())


def _with_lists(tmp_path: Path, lists: int = 400) -> list[ResultRow]:
    """Two levels, 0.02 apart, whose lists differ much between each other and little between the levels."""
    source, found = np.random.default_rng(1), []
    common = source.uniform(0.2, 0.6, lists)
    for row in rows_of("width", [1, 2], lambda x: 0.0, seeds=1):
        values = common + 0.02 * (row.level - 1) + 0.01 * source.standard_normal(lists)
        folder = tmp_path / f"{row.level:g}"
        folder.mkdir()
        names = [f"s{place}" for place in source.permutation(lists)]
        frame = pd.DataFrame({"search_id": names, "task": "purchase", "map": values[[int(name[1:]) for name in names]]})
        frame.to_parquet(folder / "per_list.parquet")
        found.append(dataclasses.replace(row, value=float(values.mean()), lists=lists, evaluation=str(folder)))
    return found


def test_values_per_list_give_paired_intervals(tmp_path: Path) -> None:
    rows = _with_lists(tmp_path)
    step = _step(rows)
    assert step.interval is not None and not step.against
    half = 1.96 * 0.01 * np.sqrt(2 / 400)  # of the mean of paired differences; unpaired it would be 0.016
    assert (step.interval[1] - step.interval[0]) / 2 == pytest.approx(half, rel=0.2)


def test_evaluations_that_are_not_the_tables_are_refused(tmp_path: Path) -> None:
    rows = _with_lists(tmp_path)
    with pytest.raises(CvrError, match="the evaluation is not the one"):
        _axis([rows[0], dataclasses.replace(rows[1], value=0.9)])
    with pytest.raises(CvrError, match="on 399 and on 400 lists"):
        _axis([rows[0], dataclasses.replace(rows[1], lists=399)])
