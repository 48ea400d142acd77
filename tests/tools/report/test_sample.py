"""Curves of the sampled lists, with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tools.report.sample import MIN_SHOWN, Sample, position_curve, task_delays, wilson


def _sample(positions: np.ndarray, hits: np.ndarray, delays: np.ndarray) -> Sample:
    return Sample(np.array([2]), positions, hits[:, None], delays[:, None])


def test_position_curve_is_the_share_of_labels_by_position() -> None:
    positions = np.repeat([1, 2, 3], [100, 100, MIN_SHOWN - 1])
    hits = np.zeros(len(positions), bool)
    hits[:30] = True
    hits[100:110] = True
    curve = position_curve(_sample(positions, hits, np.zeros(len(positions), np.int64)), 0)
    assert curve.x == [1, 2]  # position 3 is shown too seldom
    assert curve.y == pytest.approx([0.3, 0.1])
    assert curve.low is not None and curve.high is not None
    assert curve.low[0] < 0.3 < curve.high[0]


def test_wilson_interval_known_values() -> None:
    """10 of 100: 0.0552 to 0.1744, the usual textbook example; 0 of n stays at 0."""
    low, high = wilson(np.array([10.0, 0.0]), np.array([100.0, 50.0]))
    assert low == pytest.approx([0.0552, 0.0], abs=1e-4)
    assert high[0] == pytest.approx(0.1744, abs=1e-4)


def test_delays_are_those_of_labelled_items_of_all_splits() -> None:
    one = _sample(np.array([1, 2]), np.array([True, False]), np.array([500, -1]))
    two = _sample(np.array([1, 2]), np.array([False, True]), np.array([700, 900]))
    assert task_delays({"train": one, "test": two}, 0).tolist() == [500, 900]
