"""The losses that give scores a level: float64 references, gradients, optima that are the labels' rates, extreme logits, padding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_expit, logsumexp

from cvr.errors import CvrError
from cvr.losses import LOSSES, Loss, calibrated_softmax_loss, listwise_losses, regression_compatible_loss
from tests.cvr.test_losses import _batch, _one_task, _random

ANCHORED = Loss("calibrated_softmax", anchor_label=0.7)
JOINT = Loss("regression_compatible", listwise_share=0.3)
Rows = list[np.ndarray]


def _anchored(scores: np.ndarray, labels: np.ndarray) -> float:
    log_z = logsumexp(np.append(scores, 0.0))
    return float(-(labels * (scores - log_z)).sum() + 0.7 * log_z)


def _joint(scores: np.ndarray, labels: np.ndarray) -> float:
    entropy = -(labels * log_expit(scores) + (1 - labels) * log_expit(-scores)).sum()
    listwise = -(labels * (log_expit(scores) - logsumexp(log_expit(scores)))).sum()
    return float(0.7 * entropy + 0.3 * listwise)


REFERENCES: dict[str, tuple[Loss, Callable[[np.ndarray, np.ndarray], float]]] = {
    "calibrated_softmax": (ANCHORED, _anchored),
    "regression_compatible": (JOINT, _joint),
}


def _reference(name: str, logits: np.ndarray, labels: Rows) -> np.ndarray:
    total, start = np.zeros(labels[0].shape[1]), 0
    for rows in labels:
        scores = logits[start : start + len(rows)].astype(np.float64)
        start += len(rows)
        total += [REFERENCES[name][1](scores[:, t], rows[:, t]) for t in range(rows.shape[1])]
    return total / len(labels)


both = pytest.mark.parametrize("name", REFERENCES)


@both
@pytest.mark.parametrize("scale", [0.0, 3.0, 30.0])
def test_equals_the_formula(name: str, scale: float) -> None:
    logits, labels = _random(2, scale)
    found = listwise_losses(tf.constant(logits), _batch(labels), 7, REFERENCES[name][0])
    np.testing.assert_allclose(found, _reference(name, logits, labels), rtol=1e-5)


def test_by_hand() -> None:
    """Two items at 0, one positive: anchored with y0 = 1, two shares of 1/3 each; joint, two fair coins and a fair choice."""
    batch = _batch(_one_task([1, 0]))
    anchored = listwise_losses(tf.zeros([2, 1]), batch, 2, Loss("calibrated_softmax"))
    np.testing.assert_allclose(anchored, [2 * np.log(3)], rtol=1e-6)
    joint = listwise_losses(tf.zeros([2, 1]), batch, 2, Loss("regression_compatible", listwise_share=0.25))
    np.testing.assert_allclose(joint, [0.75 * 2 * np.log(2) + 0.25 * np.log(2)], rtol=1e-6)


def test_ends_of_the_listwise_share() -> None:
    logits, labels = _random(3)
    scores, rows = tf.constant(logits[None, : len(labels[0])]), tf.constant(labels[0][None], tf.float32)
    alone = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(rows, scores), axis=[0, 1])
    np.testing.assert_allclose(regression_compatible_loss(scores, rows, 0.0), alone, rtol=1e-6)
    shares = tf.math.log(tf.sigmoid(scores) / tf.reduce_sum(tf.sigmoid(scores), axis=1, keepdims=True))
    np.testing.assert_allclose(
        regression_compatible_loss(scores, rows, 1.0), -tf.reduce_sum(rows * shares, axis=[0, 1]), rtol=1e-5
    )


def test_without_an_anchor_it_is_the_softmax() -> None:
    logits, labels = _random(4)
    plain = listwise_losses(tf.constant(logits + 40.0), _batch(labels), 7)  # far above the anchor's 0, which then weighs nothing
    found = listwise_losses(tf.constant(logits + 40.0), _batch(labels), 7, Loss("calibrated_softmax", anchor_label=1e-9))
    np.testing.assert_allclose(found, plain, rtol=1e-4)


@both
def test_padding_items_and_lists_add_exactly_nothing(name: str) -> None:
    logits, labels = _random(5)
    padded = np.concatenate([logits, np.full((9, 3), 50.0, np.float32)])
    loss = REFERENCES[name][0]
    before = listwise_losses(tf.constant(logits), _batch(labels), 6, loss)
    after = listwise_losses(tf.constant(padded), _batch(labels, padding=9, padding_lists=4), 11, loss)
    np.testing.assert_allclose(after, before, rtol=1e-6)
    values = tf.constant(padded)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(listwise_losses(values, _batch(labels, padding=9, padding_lists=4), 11, loss))
    assert not tf.convert_to_tensor(tape.gradient(total, values)).numpy()[-9:].any()


def test_a_list_without_positives_pulls_its_scores_down() -> None:
    batch, logits = _batch(_one_task([0, 0])), tf.zeros([2, 1])
    np.testing.assert_allclose(listwise_losses(logits, batch, 2, ANCHORED), [0.7 * np.log(3)], rtol=1e-6)
    np.testing.assert_allclose(listwise_losses(logits, batch, 2, JOINT), [0.7 * 2 * np.log(2)], rtol=1e-6)
    for loss in (ANCHORED, JOINT):
        lower = listwise_losses(logits - 1.0, batch, 2, loss)
        assert float(lower[0]) < float(listwise_losses(logits, batch, 2, loss)[0])


@both
def test_gradient_equals_differences_of_the_reference(name: str) -> None:
    logits, labels = _random(6)
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(listwise_losses(values, _batch(labels, padding_lists=1), 6, REFERENCES[name][0]))
    found, exact = tf.convert_to_tensor(tape.gradient(total, values)).numpy(), logits.astype(np.float64)
    for row, task in ((0, 0), (3, 1), (len(logits) - 1, 2)):
        ends = []
        for step in (1e-6, -1e-6):
            moved = exact.copy()
            moved[row, task] += step
            ends.append(_reference(name, moved, labels).sum())
        assert found[row, task] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-5)


@both
@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_extreme_logits_are_exact_and_not_the_same_after_a_shift(name: str, shift: float) -> None:
    logits, labels = _random(7)
    values = tf.constant(logits + np.float32(shift))
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = listwise_losses(values, _batch(labels), 7, REFERENCES[name][0])
    expected = _reference(name, (logits + np.float32(shift)), labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert np.isfinite(tf.convert_to_tensor(tape.gradient(found, values))).all()
    assert np.abs(expected - _reference(name, logits, labels)).min() > 1.0


RATES = np.array([0.6, 0.3, 0.05])


def _draws(count: int) -> np.ndarray:
    """Labels `[count, 3]` of three independent coins of the given rates, each outcome as often as it is likely."""
    outcomes = np.array([[(k >> bit) & 1 for bit in range(3)] for k in range(8)], np.float64)
    return np.repeat(outcomes, np.round(count * np.prod(np.where(outcomes > 0, RATES, 1 - RATES), axis=1)).astype(int), axis=0)


def _joint_sum(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return regression_compatible_loss(scores, labels, JOINT.listwise_share)


@pytest.mark.parametrize("loss", [Loss("calibrated_softmax", 0.7), Loss("calibrated_softmax"), JOINT], ids=["y0=0.7", "y0=1", "joint"])
def test_the_optimum_is_the_rate_of_each_item(loss: Loss) -> None:
    """Three items with free logits and independent labels, so that the number of positives varies and may be 0."""
    labels = tf.constant(_draws(1000)[:, :, None], tf.float64)
    logits = tf.Variable(np.zeros([1, 3, 1]))

    @tf.function
    def descend() -> None:
        with tf.GradientTape() as tape:
            scores = tf.repeat(logits, labels.shape[0], axis=0)
            anchored = loss.name == "calibrated_softmax"
            sums = calibrated_softmax_loss(scores, labels, loss.anchor_label) if anchored else _joint_sum(scores, labels)
        logits.assign_sub(4.0 * tape.gradient(sums, logits) / labels.shape[0])

    for _ in range(400):
        descend()
    found = logits.numpy()[0, :, 0]
    rates = loss.anchor_label * np.exp(found) if loss.name == "calibrated_softmax" else 1 / (1 + np.exp(-found))
    np.testing.assert_allclose(rates, RATES, atol=2e-3)


@both
def test_first_bias_is_the_best_constant(name: str) -> None:
    labels = _one_task([1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0])
    loss = REFERENCES[name][0]
    bias = loss.first_bias(4 / 16)
    at = [_reference(name, np.full((16, 1), bias + step), labels)[0] for step in (-0.01, 0.0, 0.01)]
    assert at[1] < min(at[0], at[2]) and loss.fixes_level and not Loss().fixes_level


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "hinge"}, "--loss=hinge: there are softmax, calibrated_softmax, regression_compatible"),
        ({"anchor_label": 0.0}, "--anchor_label=0.0 must be above 0"),
        ({"listwise_share": 1.5}, "--listwise_share=1.5 must be from 0 to 1"),
    ],
)
def test_values_that_make_no_loss(values: dict[str, object], message: str) -> None:
    with pytest.raises(CvrError, match=message):
        Loss(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LOSSES)
def test_low_precision_logits_are_summed_in_float32(name: str) -> None:
    logits, labels = _random(8)
    rounded = tf.cast(tf.constant(logits), tf.bfloat16)
    found = listwise_losses(rounded, _batch(labels), 7, Loss(name))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, listwise_losses(tf.cast(rounded, tf.float32), _batch(labels), 7, Loss(name)))
