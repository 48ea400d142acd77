"""Measures of probabilities: by hand, against scikit-learn, and what adding noise or a constant must do to them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from cvr.reliability import MEASURES, equal_mass_bins, reliability


def _world(lists: int, slope: float = 1.0, intercept: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, probabilities, lengths): the label's log-odds are slope times those of the probability, plus the intercept."""
    source = np.random.default_rng(seed)
    lengths = source.integers(1, 9, lists)
    odds = source.normal(-2.0, 1.0, lengths.sum())
    return (source.random(len(odds)) < expit(slope * odds + intercept)).astype(np.float32), expit(odds), lengths


def test_by_hand() -> None:
    """Two bins of two: means .15 and .6 predicted, 0 and 1/2 observed."""
    labels, p = np.array([0, 0, 1, 0]), np.array([0.1, 0.2, 0.5, 0.7])
    found = reliability(labels, p, np.array([2, 2]), replicates=20, bins=2)
    assert found.summary["ece"] == pytest.approx((0.15 + 0.1) / 2) and found.summary["bins"] == 2
    np.testing.assert_allclose(found.predicted, [0.15, 0.6])
    np.testing.assert_allclose(found.observed, [0.0, 0.5])
    assert found.items.tolist() == [2, 2]
    assert found.summary["mean_predicted"] == pytest.approx(0.375) and found.summary["observed"] == 0.25
    assert found.summary["predicted_to_observed"] == pytest.approx(1.5)
    noise = np.sqrt(2 / np.pi * (0.09 + 0.16)) + np.sqrt(2 / np.pi * (0.25 + 0.21))
    assert found.summary["ece_if_calibrated"] == pytest.approx(noise / 4)


def test_equals_scikit_learn() -> None:
    labels, p, lengths = _world(400, slope=0.6, intercept=-0.5)
    found = reliability(labels, p, lengths, replicates=10)
    observed, predicted = calibration_curve(labels, p, n_bins=20, strategy="quantile")
    np.testing.assert_allclose(found.observed, observed, rtol=1e-9)
    np.testing.assert_allclose(found.predicted, predicted, rtol=1e-9)
    weights = np.bincount(equal_mass_bins(p, 20)) / len(p)
    assert found.summary["ece"] == pytest.approx((weights * np.abs(observed - predicted)).sum(), rel=1e-9)
    assert np.ptp(found.items) <= 1
    assert found.summary["brier"] == pytest.approx(brier_score_loss(labels, p), rel=1e-9)
    assert found.summary["log_loss"] == pytest.approx(log_loss(labels, p), rel=1e-9)
    line = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(logit(p)[:, None], labels)
    assert found.summary["slope"] == pytest.approx(line.coef_[0, 0], rel=1e-4)
    assert found.summary["intercept"] == pytest.approx(line.intercept_[0], rel=1e-4)


def test_a_planted_miscalibration_comes_back_within_its_intervals() -> None:
    found = reliability(*_world(4000, slope=0.6, intercept=-0.5), replicates=200).summary
    assert found["slope_ci"][0] < 0.6 < found["slope_ci"][1] < 1.0
    assert found["intercept_ci"][0] < -0.5 < found["intercept_ci"][1] < 0.0
    assert found["ece"] > 4 * found["ece_if_calibrated"]


def test_calibrated_probabilities_have_the_noise_that_is_announced() -> None:
    """Mean over 30 worlds of true probabilities, with and without the error that 20 bins of few items cannot tell from 0."""
    pairs = []
    for seed in range(30):
        found = reliability(*_world(150, seed=seed), replicates=2).summary
        pairs.append((found["ece"], found["ece_if_calibrated"]))
    observed, announced = np.mean(pairs, axis=0)
    assert observed == pytest.approx(announced, rel=0.08)


def test_intervals_equal_refits_of_every_replicate() -> None:
    """Slope and intercept by one Newton step against scikit-learn's fit on the drawn lists themselves."""
    labels, p, lengths = _world(300, slope=0.8)
    found = reliability(labels, p, lengths, replicates=25, seed=5).summary
    source, starts, fits = np.random.default_rng(5), np.cumsum(lengths) - lengths, []
    rows_of = [np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
    for _ in range(25):
        drawn = np.bincount(source.integers(0, 300, 300), minlength=300)
        rows = np.concatenate([np.tile(rows_of[k], times) for k, times in enumerate(drawn) if times])
        line = LogisticRegression(C=1e12, max_iter=1000).fit(logit(p[rows])[:, None], labels[rows])
        fits.append([line.coef_[0, 0], line.intercept_[0], p[rows].mean(), ((p[rows] - labels[rows]) ** 2).mean()])
    low, high = np.percentile(fits, [2.5, 97.5], axis=0)
    for place, (name, tolerance) in enumerate({"slope": 0.03, "intercept": 0.03, "mean_predicted": 1e-9, "brier": 1e-9}.items()):
        np.testing.assert_allclose(found[f"{name}_ci"], [low[place], high[place]], atol=tolerance, err_msg=name)


def test_items_of_a_list_are_drawn_together() -> None:
    """Lists whose items all carry one label: the interval is that of 200 lists, not of 2,000 items."""
    source, lengths = np.random.default_rng(6), np.full(200, 10)
    labels = np.repeat(source.random(200) < 0.3, 10).astype(float)
    low, high = reliability(labels, np.clip(source.random(2000), 0.1, 0.9), lengths, replicates=400).summary["observed_ci"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 200), rel=0.2)


def test_a_constant_added_to_the_log_odds_ruins_the_level_alone() -> None:
    labels, p, lengths = _world(2000)
    found = reliability(labels, expit(logit(p) + 1.5), lengths, replicates=50).summary
    assert found["slope"] == pytest.approx(1.0, abs=0.05) and found["intercept"] == pytest.approx(-1.5, abs=0.1)
    assert found["predicted_to_observed"] > 2 and found["ece"] > 0.1


@pytest.mark.parametrize(
    ("labels", "p", "undefined"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], {"slope", "intercept", "predicted_to_observed"}),
        ([0, 1, 0], [0.2, 0.2, 0.2], {"slope", "intercept"}),
        ([0, 1, 0], [0.1, 0.4, 0.3], {"slope", "intercept"}),
    ],
)
def test_what_is_not_defined_is_nan(labels: list[int], p: list[float], undefined: set[str]) -> None:
    found = reliability(np.array(labels), np.array(p), np.array([2, 1]), replicates=10).summary
    assert {name for name in MEASURES if np.isnan(found[name])} == undefined


def test_certain_probabilities_have_finite_measures() -> None:
    found = reliability(np.array([0, 1, 1, 0]), np.array([0.0, 1.0, 0.0, 0.3]), np.array([4]), replicates=5).summary
    assert np.isfinite([found["log_loss"], found["brier"], found["slope"]]).all()
