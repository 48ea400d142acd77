"""Statistics of paired differences against closed forms, hand calculations and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cvr.errors import CvrError
from tools.comparison.statistics import Comparison, Resampling, benjamini_hochberg, compare, holm, resampled_means

A = np.array([[0.2, 0.4, 0.6, 0.8]])
B = np.array([[0.3, 0.4, 0.9, 0.8]])


def test_a_difference_by_hand() -> None:
    found = compare(A, B)
    assert (found.lists, found.clusters, found.seeds) == (4, 4, (1, 1))
    assert (found.reference, found.system) == pytest.approx((0.5, 0.6))
    assert (found.difference, found.relative) == pytest.approx((0.1, 0.2))
    # differences .1 0 .3 0: squared deviations 0 + .01 + .04 + .01 = .06, over 3 and 4
    assert found.se_lists == pytest.approx(np.sqrt(0.06 / 12)) and found.se_seeds == 0
    assert found.mde == pytest.approx((3.182446 + 0.978472) * np.sqrt(0.005), rel=1e-5)  # t(.975; 3) + t(.8; 3)


def test_p_values_are_those_of_paired_t_tests() -> None:
    source = np.random.default_rng(2)
    a = source.beta(1, 1, (1, 50))
    b = a + source.normal(0.02, 0.1, (1, 50))
    found = compare(a, b, Resampling(100, margin=0.05))
    assert found.p == pytest.approx(stats.ttest_rel(b[0], a[0]).pvalue)
    sides = (("greater", -0.05), ("less", 0.05))
    equivalent = max(stats.ttest_1samp((b - a)[0], at, alternative=side).pvalue for side, at in sides)
    assert found.p_equivalent == pytest.approx(equivalent) and 0.001 < equivalent < 0.1
    assert compare(b, a, Resampling(100, margin=0.05)).p_equivalent == pytest.approx(equivalent)


def test_the_interval_is_the_bootstrap_of_the_lists() -> None:
    source = np.random.default_rng(3)
    a, b = source.beta(1, 1, (1, 400)), source.beta(2, 1, (1, 400))
    found = compare(a, b, Resampling(20_000))
    oracle = stats.bootstrap(((b - a)[0],), np.mean, n_resamples=20_000, method="percentile", rng=source)
    np.testing.assert_allclose(found.interval, oracle.confidence_interval, atol=0.0015)
    ratio = stats.bootstrap((b[0], a[0]), lambda x, y, axis: x.mean(axis) / y.mean(axis) - 1, paired=True, n_resamples=5_000,
                            vectorized=True, method="percentile", rng=source)  # fmt: skip
    np.testing.assert_allclose(found.relative_interval, ratio.confidence_interval, atol=0.006)


def test_the_parts_of_the_variance_are_those_of_the_two_way_layout() -> None:
    """Expected mean squares of a random two-way layout: rows (seeds), columns (lists), residual."""
    source = np.random.default_rng(4)
    a = source.normal(size=(3, 1)) * 0.1 + source.normal(size=20) + source.normal(size=(3, 20)) * 0.2
    fixed = np.full((1, 20), 0.5)
    residual = a - a.mean(0) - a.mean(1, keepdims=True) + a.mean()
    mean_squares = 3 * a.mean(0).var(ddof=1), np.sum(residual**2) / (2 * 19)
    found = compare(fixed, a, Resampling(100))
    assert found.se_lists**2 == pytest.approx((mean_squares[0] - mean_squares[1]) / (3 * 20))
    assert found.se_seeds**2 == pytest.approx(20 * a.mean(1).var(ddof=1) / (3 * 20))


def test_clusters_count_as_one() -> None:
    """Clusters of three equal lists are as good as one list of each."""
    source = np.random.default_rng(5)
    a, b = source.normal(size=(2, 2, 40))
    once = compare(a, b, Resampling(4000))
    thrice = compare(np.repeat(a, 3, 1), np.repeat(b, 3, 1), Resampling(4000), np.repeat(np.arange(40) * 7, 3))
    assert thrice.lists == 120 and thrice.clusters == 40
    for name in ("difference", "se_lists", "se_seeds", "p", "mde"):
        assert getattr(thrice, name) == pytest.approx(getattr(once, name)), name
    np.testing.assert_allclose(thrice.interval, once.interval)
    with pytest.raises(CvrError, match="4 lists in one cluster"):
        compare(A, B, Resampling(100), np.zeros(4))


def test_equal_systems_and_a_reference_of_zero() -> None:
    same = compare(A, A, Resampling(100, margin=0.01))
    assert (same.difference, same.interval, same.p, same.p_equivalent, same.mde) == (0, (0, 0), 1, 0, 0)
    assert np.isnan(compare(0 * A, B, Resampling(100)).relative)


def _simulate(truth: float, seeds: int, seed_sd: float, interaction: float, lists: float) -> list[Comparison]:
    """400 comparisons of two systems on 60 lists whose mean difference is `truth`; list effects are skewed."""
    source = np.random.default_rng(6)
    found = []
    for number in range(400):
        base = source.beta(1, 1, 60)
        a, b = (seed_sd * source.normal(size=(seeds, 1)) + interaction * source.normal(size=(seeds, 60)) for _ in range(2))
        effect = truth + lists * (source.exponential(size=60) - 1)
        found.append(compare(base + a, base + effect + b, Resampling(300, number)))
    return found


@pytest.mark.parametrize(
    ("seeds", "seed_sd", "interaction", "lists"), [(1, 0.0, 0.1, 0.2), (3, 0.05, 0.1, 0.05), (5, 0.0, 0.2, 0.0)]
)
def test_intervals_hold_the_truth(seeds: int, seed_sd: float, interaction: float, lists: float) -> None:
    """95 % of 400, with a standard error of 1.1 %: lists alone; seeds that matter most; nothing but chance."""
    found = _simulate(0.0, seeds, seed_sd, interaction, lists)
    assert 0.915 <= np.mean([c.interval[0] <= 0 <= c.interval[1] for c in found]) <= 0.985
    assert 0.015 <= np.mean([c.p < 0.05 for c in found]) <= 0.085


def test_the_minimum_detectable_effect_is_found_with_80_percent_power() -> None:
    mde = float(np.mean([c.mde for c in _simulate(0.0, 5, 0.02, 0.1, 0.1)]))
    assert 0.74 <= np.mean([c.p < 0.05 for c in _simulate(mde, 5, 0.02, 0.1, 0.1)]) <= 0.86


def test_resampled_means_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean and variance of the mean of 5 values drawn with replacement; weights of one chunk or of many."""
    values, groups = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]]), np.arange(5)
    whole = resampled_means(values, groups, 4000, np.random.default_rng(0))
    assert whole.mean() == pytest.approx(3.2, abs=0.1) and whole.var() == pytest.approx(values.var() / 5, rel=0.1)
    monkeypatch.setattr("tools.comparison.statistics._CHUNK", 35)
    np.testing.assert_array_equal(resampled_means(values, groups, 4000, np.random.default_rng(0)), whole)


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])  # .005 x 4, .01 x 3, .03 x 2, .04 x 1 raised to .06
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, 0.04, 0.04, 0.02])  # x 4/1, 4/2, 4/3, 4/4
    np.testing.assert_allclose(holm(np.array([0.6, 0.9])), [1.0, 1.0])
