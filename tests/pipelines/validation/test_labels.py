"""Funnel, positions, delays and coverage steps worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cvr.manifest import Manifest
from cvr.records import Layout
from cvr.schema import parse_spec
from pipelines.validation import labels
from pipelines.validation.coverage import coverage_checks, launches
from pipelines.validation.facts import facts
from pipelines.validation.profile import profile
from pipelines.validation.results import Figures, Thresholds
from tests.pipelines.logs import DAY, HOUR, T0
from tests.pipelines.validation.folders import SPEC, draw, replace_number

LAYOUT = Layout.of(parse_spec(SPEC))


def _facts(pairs: list[list[tuple[int, int]]], popularity: float = 0.0) -> dict[str, Any]:
    """Facts of lists given as (click, purchase) per item."""
    lengths = np.array([len(items) for items in pairs])
    values = np.array([pair for items in pairs for pair in items])
    columns = draw(len(pairs), 1)
    rows = {
        "item": np.arange(len(values)) + 9,
        "position": np.concatenate([np.arange(1, n + 1) for n in lengths]),
        "popularity": np.full(len(values), popularity, np.float32),
        "labels": values,
    }
    return facts(LAYOUT, dataclasses.replace(columns, lengths=lengths, **rows))


LISTS = [[(1, 1), (1, 0), (0, 0)], [(0, 1)], [(0, 0), (1, 1)], [(1, 1), (1, 1)], [(0, 0), (0, 0)]]


def test_funnel_and_list_facts() -> None:
    found = _facts(LISTS)
    click, purchase = labels.funnel(parse_spec(SPEC), found)
    assert (click["labels"], click["lists"], click["rate"]) == (5, 3, 0.5) and click["of_previous"] is None
    # Five purchases, one on an item without a click.
    assert (purchase["labels"], purchase["lists"], purchase["of_previous"], purchase["without_previous"]) == (
        5,
        4,
        0.8,
        1,
    )
    told = labels.list_facts(found)
    assert (told["single"], told["unlabelled"], told["all_positive"]) == (1, 1, {"click": 1, "purchase": 2})
    assert (told["smallest"], told["median"], told["largest"]) == (1, 2, 3)


def test_positions_and_display_order() -> None:
    curve = labels.positions(_facts(LISTS), "purchase")
    assert curve["position"] == [1, 2, 3] and curve["shown"] == [5, 4, 1] and curve["hits"] == [3, 2, 0]
    assert (
        curve["rate"] == [0.6, 0.5, 0]
        and curve["low"][2] == pytest.approx(0)
        and curve["high"][2] == pytest.approx(3.8415 / 4.8415, abs=1e-4)
    )
    # Average precision by list: 1, 1, 1/2, 1; the last has no purchase.
    order = labels.orders(_facts(LISTS))["display_order"]["purchase"]
    assert (order["map"], order["lists"]) == (0.875, 4)


def test_lists_without_popularity_have_no_such_order() -> None:
    assert set(labels.orders(_facts(LISTS))) == {"display_order", "popularity"}
    assert set(labels.orders(_facts(LISTS, popularity=np.nan))) == {"display_order"}


def _manifest(**counts: Any) -> Manifest:
    splits = {"train": {"first_time": T0, "last_time": T0 + DAY}}
    return Manifest(
        dataset="made", source="t", created="", spec_fingerprint="", spec_text=SPEC, counts=counts, splits=splits
    )  # type: ignore[arg-type]


def test_what_a_window_cuts_off() -> None:
    edges = {str(HOUR // 2): 60, str(HOUR): 20, str(5 * DAY): 20}
    told = {"click": {"attributed": 80, "out_of_window": 20, "delay_histogram": edges}}
    figures = Figures("lists", _manifest(attribution=told, last_time=T0 + 10 * DAY), parse_spec(SPEC), {})
    found = labels.delays(figures)
    assert found.keys() == {"click"}
    click = found["click"]
    assert (click["cut_off"], click["window"], click["log"]) == (0.2, HOUR, 10 * DAY)
    assert click["curve"] == [[HOUR // 2, 0.6], [HOUR, 0.8], [5 * DAY, 1.0]]
    # A delay of 5 days less half a bin was seen with chance 1 - 0.5 * 10^-0.05 = 0.554; one of half an hour nearly surely.
    assert click["cut_off_corrected"] == pytest.approx((20 / 0.5544) / (80 + 20 / 0.5544), abs=1e-3)
    (check,) = labels.delay_checks(found, figures)
    assert check.finding.startswith("the window of 1 h cuts off 20.00% of click engagements, about 31.")
    short = Figures("lists", _manifest(attribution=told, last_time=T0 + HOUR), parse_spec(SPEC), {})
    assert labels.delays(short)["click"]["cut_off_corrected"] is None


def _by_day(*shares: float, unseen: tuple[int, ...] = ()) -> Figures:
    """Days of 300 lists in which that share of the prices is there."""
    partials = {}
    for day, share in enumerate(shares):
        columns = draw(300, day, day)
        gone = np.arange(len(columns.item)) >= share * len(columns.item)
        values = np.where(gone, -np.inf if day in unseen else np.nan, columns.item_num[:, 0])
        columns = replace_number(columns, "price", values)
        partials["train", f"2026-01-0{day + 1}", 0] = {
            **facts(LAYOUT, columns),
            **profile(parse_spec(SPEC), LAYOUT, columns),
        }
    return Figures("lists", _manifest(), parse_spec(SPEC), partials)


def _warned(figures: Figures) -> list[str]:
    return [check.examples[0] for check in coverage_checks(figures, Thresholds()) if check.status != "pass"]


def test_coverage_steps_and_falls() -> None:
    assert _warned(_by_day(1.0, 0.95, 1.0)) == []
    assert _warned(_by_day(1.0, 0.6)) == ["price: 100.0% on 2026-01-01, 60.0% on 2026-01-02 (train)"]
    items = len(draw(300, 0).item) + len(draw(300, 1, 1).item)
    assert _warned(_by_day(0.0, 0.0)) == [f"price: {items:,} missing, 0 unseen"]
    launch = _by_day(0.0, 1.0, unseen=(0,))
    assert launches(launch) == [{"split": "train", "feature": "price", "day": "2026-01-02", "step": "launched"}]
    # The spec does not say that the price was introduced later.
    assert _warned(launch) == ["price: unseen in 100% of 2026-01-01 (train), without introduced_on in the spec"]
    assert [s["step"] for s in launches(_by_day(1.0, 0.0, unseen=(1,)))] == ["withdrawn"]
