"""Divergence against SciPy and against what sampling gives; drift that is there is found and chance is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, entropy

from pipelines.validation.drift import between, compare, design_effects
from pipelines.validation.intervals import mean_interval, wilson
from pipelines.validation.sketches import IdSketch, NumberSketch


def test_divergence_by_hand() -> None:
    # p = (1/2, 1/2), q = (1/4, 3/4), m = (3/8, 5/8).
    found = compare(np.array([500, 500]), np.array([1000, 3000]), (1000, 4000))
    assert found is not None
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    js = entropy((p + q) / 2, base=2) - (entropy(p, base=2) + entropy(q, base=2)) / 2
    assert found.js == pytest.approx(js) and found.js == pytest.approx(0.04879494)
    assert found.psi == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(1.5))
    assert found.expected == pytest.approx((1 / 1000 + 1 / 4000) / (8 * math.log(2)))
    assert found.p < 1e-30
    apart = compare(np.array([90, 0]), np.array([0, 90]), (90, 90))
    assert apart is not None and apart.js == pytest.approx(1) and compare(np.zeros(2), np.ones(2), (9, 9)) is None


def test_chance_is_as_large_as_expected() -> None:
    rng = np.random.default_rng(4)
    shares = np.arange(1, 13) / 78
    found = [compare(rng.multinomial(800, shares), rng.multinomial(300, shares), (800, 300)) for _ in range(400)]
    js, expected, p = (np.array([getattr(f, name) for f in found]) for name in ("js", "expected", "p"))
    assert js.mean() == pytest.approx(expected.mean(), rel=0.1)
    assert 0.02 < (p < 0.05).mean() < 0.09


def _sample(values: np.ndarray, ids: np.ndarray, lists: int) -> dict[str, Any]:
    return {"lists": lists, "numbers": {"x": NumberSketch.of(values)}, "ids": {"id": IdSketch.of(ids)}}


def test_a_shift_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(5)
    days = {f"d{day}": _sample(rng.lognormal(0, 1, 2000), 4 + rng.integers(0, 500, 2000), 2000) for day in range(5)}
    days["d3"] = _sample(rng.lognormal(1.5, 1, 2000), 4 + rng.integers(0, 500, 2000), 2000)
    found = between(days, "next day", [{}] * 5, 100)
    large = {(d.feature, d.kind, d.first) for d in found if d.large(0.05, len(found))}
    assert large == {("x", "next day", "d2"), ("x", "next day", "d3"), ("x", "other days", "d3")}
    assert len(found) == 2 * (4 + 5) and not between(days, "next day", [{}] * 5, 2001)


def test_values_that_are_missing_drift_and_unseen_ones_do_not() -> None:
    rng = np.random.default_rng(6)
    ids = np.full(2000, 9)
    values = rng.random(2000)
    gaps, launch = values.copy(), values.copy()
    gaps[:800], launch[:800] = np.nan, -np.inf
    for changed, expected in ((gaps, True), (launch, False)):
        found = between({"a": _sample(values, ids, 2000), "b": _sample(changed, ids, 2000)}, "next day", [{}, {}], 100)
        assert [d.large(0.05, 2) for d in found if d.feature == "x"] == [expected]


def test_lists_that_are_alike_in_groups_count_as_fewer() -> None:
    rng = np.random.default_rng(7)
    ids = np.full(4000, 9)

    def half() -> dict[str, Any]:
        return _sample(np.repeat(rng.random(100), 40), ids, 4000)

    effect = np.mean([design_effects([half(), half()])["x"] for _ in range(20)])
    assert effect == pytest.approx(40, rel=0.25)
    alone = design_effects([_sample(rng.random(4000), ids, 4000), _sample(rng.random(4000), ids, 4000)])
    assert alone["x"] < 3 and design_effects([half()]) == {}


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (3, 10), (50, 50), (123, 4000)])
def test_wilson_against_scipy(hits: int, trials: int) -> None:
    expected = binomtest(hits, trials).proportion_ci(0.95, "wilson")
    assert wilson(hits / trials, trials) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_interval_of_a_mean() -> None:
    # 1, 2, 3, 6: mean 3, variance 14 / 3, standard error sqrt(14 / 12).
    found = mean_interval(4, 12.0, 50.0)
    assert found == pytest.approx((3, 3 - 1.959964 * math.sqrt(14 / 12), 3 + 1.959964 * math.sqrt(14 / 12)), rel=1e-6)
    assert mean_interval(1, 2.0, 4.0) is None
