"""Warm-up and cosine decay at the steps that matter."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.schedules import WarmupCosine


def test_values_at_the_steps_that_matter() -> None:
    schedule = WarmupCosine(peak=0.8, warmup_steps=4, total_steps=24, floor=0.2)
    by_hand = {0: 0.2, 1: 0.4, 3: 0.8, 4: 0.8, 9: 0.2 + 0.6 * (1 + np.cos(np.pi / 4)) / 2, 14: 0.5, 24: 0.2, 99: 0.2}
    for step, rate in by_hand.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-6), step
        assert float(schedule(tf.constant(step, tf.int64))) == pytest.approx(rate, rel=1e-6)


def test_up_then_down() -> None:
    schedule = WarmupCosine(1.0, 10, 60)
    rates = np.array([float(schedule(step)) for step in range(61)])
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all()
    assert rates.max() == rates[9] == rates[10] == 1.0 and rates[60] == pytest.approx(0.0, abs=1e-7)


def test_no_warm_up() -> None:
    assert float(WarmupCosine(0.3, 0, 5)(0)) == pytest.approx(0.3)


@pytest.mark.parametrize(("warmup", "total"), [(5, 5), (-1, 5), (0, 0)])
def test_a_warm_up_that_does_not_fit_is_an_error(warmup: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"warm-up of {warmup} steps does not fit into {total} steps"):
        WarmupCosine(0.3, warmup, total)


def test_config_makes_the_same_schedule() -> None:
    schedule = WarmupCosine(0.7, 3, 9, 0.1)
    again = WarmupCosine.from_config(schedule.get_config())
    assert [float(again(s)) for s in range(10)] == [float(schedule(s)) for s in range(10)]
