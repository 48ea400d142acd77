"""Links and calibrations of scores: scikit-learn and scipy as oracles, planted maps that come back, what keeps the order of a list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss

from cvr.calibration import METHODS, Calibration, fit_task, load_calibration
from cvr.errors import CvrError
from cvr.links import SMALLEST, Link
from cvr.losses import LOSSES, Loss
from cvr.manifest import publish_json

SOFTMAX, ANCHORED, SIGMOID = Link(Loss()), Link(Loss("calibrated_softmax", anchor_label=0.5)), Link(Loss("regression_compatible"))
LENGTHS = np.array([3, 1, 4])
SCORES = np.array([1.0, 2.0, -1.0, 5.0, 0.0, 0.5, 3.0, -40.0], np.float32)


def _cut(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(values, np.cumsum(lengths)[:-1])


def test_softmax_is_over_the_list() -> None:
    found = _cut(SOFTMAX.probabilities(SCORES, LENGTHS), LENGTHS)
    np.testing.assert_allclose(found[0], softmax([1.0, 2.0, -1.0]), rtol=1e-9)
    assert found[1] == pytest.approx(1 - SMALLEST) and found[2][3] == pytest.approx(SMALLEST)  # kept off 0 and 1
    np.testing.assert_allclose(found[2][:3], softmax([0.0, 0.5, 3.0]), rtol=1e-9)


def test_the_other_links_see_each_item_alone() -> None:
    np.testing.assert_allclose(SIGMOID.probabilities(SCORES[:3], LENGTHS[:1]), expit([1.0, 2.0, -1.0]), rtol=1e-12)
    np.testing.assert_allclose(ANCHORED.probabilities(SCORES[2:3], LENGTHS[1:2]), [0.5 * np.exp(-1.0)], rtol=1e-12)
    assert ANCHORED.probabilities(SCORES[3:4], LENGTHS[1:2]) == pytest.approx(1 - SMALLEST)  # 0.5 e^5 is above 1


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_log_odds_at_a_temperature(name: str, temperature: float) -> None:
    """Against scipy's softmax and logit, at logits where nothing is cut."""
    scores, lengths = np.array([0.3, -2.0, 1.0, -1.0, -1.5]), np.array([3, 2])
    expected = {
        "softmax": logit(np.concatenate([softmax(part / temperature) for part in _cut(scores, lengths)])),
        "calibrated_softmax": logit(0.25 * np.exp(scores / temperature)),
        "regression_compatible": scores / temperature,
    }[name]
    if name == "calibrated_softmax" and temperature == 0.5:
        expected = np.minimum(expected, logit(1 - SMALLEST))  # 0.25 e^2 is above 1
        expected[2] = logit(1 - SMALLEST)
    np.testing.assert_allclose(Link(Loss(name, 0.25)).log_odds(scores, lengths, temperature), expected, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1000, 1000))
def test_softmax_probabilities_do_not_see_a_shift_of_a_list_and_the_others_do(seed: int, shift: float) -> None:
    source = np.random.default_rng(seed)
    lengths = source.integers(1, 6, 4)
    scores = source.normal(0, 3, lengths.sum())
    moved = scores + np.repeat(np.where(np.arange(4) == 1, shift, 0.0), lengths)
    np.testing.assert_allclose(SOFTMAX.probabilities(moved, lengths), SOFTMAX.probabilities(scores, lengths), rtol=1e-6, atol=1e-12)
    if abs(shift) > 0.1:
        assert not np.allclose(SIGMOID.probabilities(moved, lengths), SIGMOID.probabilities(scores, lengths), rtol=1e-9, atol=0)


def _planted(link: Link, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of 3,000 lists, and labels whose log-odds are 0.7 z - 0.4."""
    source = np.random.default_rng(seed)
    lengths = source.integers(2, 12, 3000)
    scores = source.normal(-1.5, 1.0, lengths.sum())
    chance = expit(0.7 * link.log_odds(scores, lengths) - 0.4)
    return scores, (source.random(len(scores)) < chance).astype(np.float32), lengths


@pytest.mark.parametrize("link", [SOFTMAX, ANCHORED, SIGMOID], ids=LOSSES)
def test_platt_finds_the_planted_line_and_is_scikit_learns(link: Link) -> None:
    scores, labels, lengths = _planted(link)
    fitted = fit_task("platt", link, scores, labels, lengths, "t")
    assert fitted.slope == pytest.approx(0.7, abs=0.06) and fitted.intercept == pytest.approx(-0.4, abs=0.1)
    odds = link.log_odds(scores, lengths)
    oracle = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(odds[:, None], labels)
    np.testing.assert_allclose(fitted.apply(link, scores, lengths), oracle.predict_proba(odds[:, None])[:, 1], atol=1e-5)
    assert fitted.apply(link, scores, lengths).mean() == pytest.approx(labels.mean(), rel=1e-6)
    assert fitted.log_loss[0] == pytest.approx(sklearn_log_loss(labels, link.probabilities(scores, lengths)), rel=1e-6)
    assert fitted.log_loss[1] == pytest.approx(sklearn_log_loss(labels, fitted.apply(link, scores, lengths)), rel=1e-6)
    assert fitted.log_loss[1] < fitted.log_loss[0] and fitted.positives == labels.sum()


def test_isotonic_is_scikit_learns_between_its_knots_too() -> None:
    scores, labels, lengths = _planted(SOFTMAX)
    fitted = fit_task("isotonic", SOFTMAX, scores, labels, lengths, "t")
    oracle = IsotonicRegression(out_of_bounds="clip").fit(SOFTMAX.log_odds(scores, lengths), labels)
    others = np.random.default_rng(1).normal(-1.5, 3.0, 60)
    expected = np.clip(oracle.predict(SOFTMAX.log_odds(others, np.full(20, 3))), SMALLEST, 1 - SMALLEST)
    np.testing.assert_allclose(fitted.apply(SOFTMAX, others, np.full(20, 3)), expected, rtol=1e-9)


def test_temperature_finds_how_much_too_sharp_the_scores_are() -> None:
    """Each list has one positive, drawn by its softmax; scores are then stretched."""
    source, lengths = np.random.default_rng(2), np.full(3000, 6)
    scores = source.normal(0, 1.0, (3000, 6))
    chosen = (scores + source.gumbel(size=scores.shape)).argmax(axis=1)
    labels = np.zeros_like(scores)
    labels[np.arange(3000), chosen] = 1
    fitted = fit_task("temperature", SOFTMAX, 2.5 * scores.ravel(), labels.ravel(), lengths, "t")
    assert fitted.temperature == pytest.approx(2.5, rel=0.05)
    found = fitted.apply(SOFTMAX, 2.5 * scores.ravel(), lengths)
    np.testing.assert_allclose(found, softmax(2.5 * scores / fitted.temperature, axis=1).ravel(), rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_within_a_list_stays(method: str) -> None:
    scores, labels, lengths = _planted(SOFTMAX, seed=3)
    found = fit_task(method, SOFTMAX, scores, labels, lengths, "t").apply(SOFTMAX, scores, lengths)
    for own, probability in zip(_cut(scores, lengths)[:200], _cut(found, lengths)[:200], strict=True):
        steps = np.diff(probability[np.argsort(own)])
        assert (steps >= 0).all() and (method == "isotonic" or (steps > 0).all())  # isotonic may tie


def test_what_cannot_be_calibrated() -> None:
    scores, labels, lengths = _planted(SOFTMAX)
    with pytest.raises(CvrError, match="task 'buy' has 0 positives among"):
        fit_task("platt", SOFTMAX, scores, 0 * labels, lengths, "buy")
    with pytest.raises(CvrError, match=r"task 'buy': labels do not rise with the scores \(slope -"):
        fit_task("platt", SOFTMAX, -scores, labels, lengths, "buy")
    with pytest.raises(CvrError, match=r"labels do not rise with the scores \(slope nan"):
        fit_task("platt", SIGMOID, labels, labels, lengths, "buy")  # told apart without a miss: no finite slope is best
    with pytest.raises(CvrError, match="labels do not rise with the scores, so no step"):
        fit_task("isotonic", SIGMOID, -labels, labels, lengths, "buy")
    rare = labels * (np.cumsum(labels) % 500 == 0)
    with pytest.raises(CvrError, match="the level of the scores is off; use --method=platt"):
        fit_task("temperature", SIGMOID, np.abs(scores) + 1.0, rare, lengths, "buy")


def _stored(folder: Path, checkpoint: str = "ckpt-1") -> Calibration:
    scores, labels, lengths = _planted(SOFTMAX)
    made = Calibration(
        method="isotonic", loss="softmax", anchor_label=1.0, condition="converted", split="validation", data="d", checkpoint=checkpoint,
        created="now", lists=len(lengths), tasks={"buy": fit_task("isotonic", SOFTMAX, scores, labels, lengths, "buy")},
    )  # fmt: skip
    publish_json(folder / "calibration.json", made)
    return made


def test_the_file_gives_the_same_numbers_back(tmp_path: Path) -> None:
    assert load_calibration(tmp_path, "ckpt-1") is None
    made, found = _stored(tmp_path), load_calibration(tmp_path, "ckpt-1")
    assert found == made and "at least one positive of the primary task" in made.meaning
    np.testing.assert_array_equal(found.probabilities("buy", SCORES, LENGTHS), made.probabilities("buy", SCORES, LENGTHS))


def test_a_file_that_does_not_fit_the_run(tmp_path: Path) -> None:
    _stored(tmp_path)
    with pytest.raises(CvrError, match="was fitted to ckpt-1, and the run uses ckpt-2; remove it and calibrate again"):
        load_calibration(tmp_path, "ckpt-2")
    (tmp_path / "calibration.json").write_text('{"method": "platt"}')
    with pytest.raises(CvrError, match="calibration.json: loss: Field required; remove it"):
        load_calibration(tmp_path, "ckpt-1")


def test_log_sums_of_extreme_scores() -> None:
    scores = np.array([1e4, 1e4 - 1, -1e4, -1e4])
    found = SOFTMAX.log_odds(scores, np.array([2, 2]))
    np.testing.assert_allclose(found, [1.0, -1.0, 0.0, 0.0], atol=1e-9)
    assert log_softmax([1e4, 1e4 - 1])[0] == pytest.approx(np.log(expit(1.0)))
