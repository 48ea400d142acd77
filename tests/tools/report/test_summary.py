"""The summary as lines for a terminal, also where a metric is not defined."""

from __future__ import annotations

from typing import Any

import pytest

from tools.report.summary import describe, percent, with_interval


def _metrics(value: float | None) -> dict[str, Any]:
    return {"map": value, "map_ci": [value, value]}


SUMMARY: dict[str, Any] = {
    "source": "synthetic",
    "lists": {"train": 18000, "validation": 1000, "eval": 7500},
    "primary_task": "purchase",
    "tasks": {
        "click": {**_metrics(None), "baselines": {"display_order": _metrics(None)}},
        "purchase": {**_metrics(0.55), "baselines": {"display_order": _metrics(0.33), "popularity": _metrics(0.4)}},
    },
    "bayes_map": 0.66,
    "bayes_map_ci": (0.65, 0.67),
    "gap_closed": 2 / 3,
    "gap_closed_ci": (0.6, 0.705),
    "parity_largest_difference": 8.3e-7,
    "flops_per_item": 1373568,
    "parameters": 864792,
    "items_per_second_train": 9876.5,
    "seconds": {"train": 101.4, "total": 150.0},
    "model_version": 1,
}


def test_all_figures_are_in_the_lines() -> None:
    text = describe(SUMMARY)
    for part in (
        "18,000 training lists, 7,500 test lists",
        "Bayes ceiling",
        "closes 67 % [60, 70]",
        "864,792",
        "8.3e-07",
    ):
        assert part in text
    assert "train 101, total 150" in text


def test_without_a_truth_there_is_no_ceiling() -> None:
    text = describe({key: value for key, value in SUMMARY.items() if "bayes" not in key and "gap" not in key})
    assert "Bayes" not in text and "gap" not in text


def test_a_metric_without_lists_is_not_defined() -> None:
    assert with_interval({"map": None, "map_ci": [None, None]}, "map") == "not defined"
    assert with_interval({"map": 0.61579, "map_ci": [0.6, 0.63]}, "map") == "0.6158 [0.6000, 0.6300]"


@pytest.mark.parametrize(("value", "shown"), [(0.664, "66 % [61, 70]"), (-0.02, "-2 % [61, 70]")])
def test_percent(value: float, shown: str) -> None:
    assert percent({"gap": value, "gap_ci": (0.61, 0.7)}, "gap") == shown
