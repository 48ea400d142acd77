"""The serving benchmark: goals and tables from hand-made cells, and its turns on a served stand-in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.ranker import RankerConfig, build_ranker
from tools.benchmarks import serving_report
from tools.benchmarks.reference_batch import reference_batch, reference_spec
from tools.benchmarks.serving_cells import Cell, rounds
from tools.benchmarks.serving_report import CLIENT, CONTEXT, OVERHEAD, SPLIT, goals, read, shown
from tools.benchmarks.summary import Spread


def _cell(group: str, name: str, value: float, unit: str = "items/s") -> Cell:
    return Cell(group, name, unit, Spread(value, value, value))


def test_goals_by_hand() -> None:
    cells = [
        _cell(CLIENT, "1 candidate a request", 500),
        _cell(CLIENT, "1 candidate a request", 2.0, "server CPU ms"),
        _cell(CLIENT, "200 candidates a request", 11_000),
        _cell(OVERHEAD, "server", 800),
        _cell(OVERHEAD, "in process", 1_000),
        _cell(CONTEXT, "once", 30),
        _cell(CONTEXT, "per item", 20),
        _cell(SPLIT, "serving_default", 10),
    ]
    client, dynamic, overhead, context, split = goals(cells, {"off": 100.0, "0 ms": 230.0, "5 ms": 180.0})
    assert client.reached == pytest.approx(22) and client.met is True
    assert dynamic.reached == pytest.approx(2.3) and dynamic.met is True
    assert overhead.reached == pytest.approx(0.8) and overhead.met is False
    assert context.reached == pytest.approx(1.5)
    assert split.reached is None and split.met is None
    assert goals([], {})[1].met is None and goals([], {"off": 0.0, "0 ms": 5.0})[1].met is None


def test_report_is_read_back_and_shown(tmp_path: Path) -> None:
    cell = {"group": OVERHEAD, "name": "server", "unit": "items/s", "value": {"median": 812.0, "least": 800.0, "most": 830.0}}
    found = {
        "format": 1,
        "benchmark": "serving",
        "created": "2026-01-01",
        "machine": {"processor": "P", "cpus": 2, "memory_gib": 4},
        "versions": {"python": "3.11"},
        "load": 0.5,
        "settings": {"backbone": "masknet", "factors": {}, "threads": 1, "callers": 4, "rounds": 5, "limit_ms": 50.0},
        "cells": [cell],
        "dynamic": [{"name": "off", "peak": {"items_per_second": 200.0}}, {"name": "5 ms", "peak": {"items_per_second": 500.0}}],
    }
    path = tmp_path / "serving.json"
    path.write_text(json.dumps(found))
    text = shown(read(path), markdown=True)
    assert "812 (800-830)" in text and "2.50" in text and serving_report.GPU_NOTE in text and "not measured" in text
    path.write_text("{}")
    with pytest.raises(CvrError, match="no report of tools.benchmarks.serving"):
        read(path)


def test_turns_are_taken_in_rounds_that_begin_with_another_cell() -> None:
    order: list[str] = []

    def turn(name: str, values: list[float]):  # noqa: ANN202
        return lambda: order.append(name) or {"items/s": values.pop(0)}

    found = rounds("group", {"a": turn("a", [3.0, 1.0, 2.0]), "b": turn("b", [9.0, 9.0, 8.0])}, 3, lambda line: None)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == [Cell("group", "a", "items/s", Spread(2.0, 1.0, 3.0)), Cell("group", "b", "items/s", Spread(9.0, 8.0, 9.0))]


def test_both_context_batches_hold_as_many_items() -> None:
    spec = reference_spec(100, 4)
    once, each = (reference_batch(spec, lists, length=length) for lists, length in ((1, 6), (6, 1)))
    assert len(once["list_index"]) == len(each["list_index"]) == 6
    assert np.unique(once["list_index"][once["item_mask"] > 0]).tolist() == [0]
    assert np.unique(each["list_index"][each["item_mask"] > 0]).tolist() == list(range(6))
    ranker = build_ranker(spec, RankerConfig("masknet", {"cross_width": 8, "deep_width": 4}), dummy_batch(spec))
    for batch in (once, each):
        context, items = ranker.extract({name: value for name, value in batch.items() if value.dtype != tf.string})
        assert ranker.score(tf.gather(ranker.project_context(context), batch["list_index"]), items).shape == (6, 3)
