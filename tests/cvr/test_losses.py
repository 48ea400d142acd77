"""The listwise loss: published values, a float64 reference of the formula, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.losses import LOSSES, Loss, centre, listwise_losses, to_lists


def _batch(labels: list[np.ndarray], padding: int = 0, padding_lists: int = 0) -> dict[str, tf.Tensor]:
    """A batch of lists with labels [n, T], `padding` items (in the last, empty list) and `padding_lists` empty lists."""
    sizes = [len(rows) for rows in labels]
    index = np.repeat(np.arange(len(sizes)), sizes)
    offset = np.concatenate([np.arange(n) for n in sizes])
    lists = len(sizes) + padding_lists
    fill = np.zeros((padding, labels[0].shape[1]))
    return {
        "labels": tf.constant(np.concatenate([*labels, fill]), tf.float32),
        "list_index": tf.constant(np.concatenate([index, np.full(padding, lists - 1)]), tf.int32),
        "item_offset": tf.constant(np.concatenate([offset, np.zeros(padding)]), tf.int32),
        "item_mask": tf.constant(np.concatenate([np.ones(len(index)), np.zeros(padding)]), tf.float32),
        "list_size": tf.constant(sizes + [0] * padding_lists, tf.int32),
    }


def _one_task(*lists: list[int]) -> list[np.ndarray]:
    return [np.array(rows, np.float64)[:, None] for rows in lists]


def _reference(logits: np.ndarray, labels: list[np.ndarray]) -> np.ndarray:
    """-1/Q sum_q sum_i y_it log softmax(s_t)_i in float64."""
    total, start = np.zeros(labels[0].shape[1]), 0
    for rows in labels:
        scores = logits[start : start + len(rows)].astype(np.float64)
        start += len(rows)
        highest = scores.max(axis=0)
        log_sum = highest + np.log(np.exp(scores - highest).sum(axis=0))
        total -= (rows * (scores - log_sum)).sum(axis=0)
    return total / len(labels)


def _random(seed: int, scale: float = 3.0) -> tuple[np.ndarray, list[np.ndarray]]:
    source = np.random.default_rng(seed)
    labels = [(source.random((n, 3)) < 0.3).astype(np.float64) for n in source.integers(1, 7, 12)]
    return source.normal(0, scale, (sum(map(len, labels)), 3)).astype(np.float32), labels


def test_published_values() -> None:
    one = listwise_losses(tf.constant([[0.6], [0.8]]), _batch(_one_task([1, 0])), 2)
    np.testing.assert_allclose(one, [0.7981389], rtol=1e-6)
    two = listwise_losses(tf.constant([[0.6], [0.8], [0.5], [0.8], [0.4]]), _batch(_one_task([1, 0], [0, 1, 0])), 3)
    np.testing.assert_allclose(two, [0.83911896], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formula(seed: int) -> None:
    logits, labels = _random(seed)
    np.testing.assert_allclose(
        listwise_losses(tf.constant(logits), _batch(labels), 7), _reference(logits, labels), rtol=1e-5
    )


@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_shifting_the_logits_of_a_list_changes_nothing(shift: float) -> None:
    logits, labels = _random(4)
    moved = logits.copy()
    moved[: len(labels[0])] += shift
    moved[-len(labels[-1]) :] += shift
    before = listwise_losses(tf.constant(logits), _batch(labels), 6)
    np.testing.assert_allclose(listwise_losses(tf.constant(moved), _batch(labels), 6), before, rtol=1e-5)


def test_logits_far_below_the_padding_mask() -> None:
    """TF-Ranking masks padding with -23: without centring, real logits of -100 would lose to it."""
    loss = listwise_losses(tf.constant([[-100.0], [-101.0]]), _batch(_one_task([1, 0])), 5)
    np.testing.assert_allclose(loss, [np.log1p(np.exp(-1.0))], rtol=1e-5)


def test_padding_items_and_lists_change_nothing() -> None:
    logits, labels = _random(5)
    padded = np.concatenate([logits, np.full((9, 3), 50.0, np.float32)])
    before = listwise_losses(tf.constant(logits), _batch(labels), 6)
    after = listwise_losses(tf.constant(padded), _batch(labels, padding=9, padding_lists=4), 11)
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_a_list_without_positives_adds_exactly_zero() -> None:
    loss = listwise_losses(tf.constant([[3.0], [-2.0], [9.0]]), _batch(_one_task([0, 0], [0])), 2)
    assert loss.numpy().tolist() == [0.0]
    with_it = listwise_losses(tf.constant([[0.6], [0.8], [5.0], [7.0]]), _batch(_one_task([1, 0], [0, 0])), 2)
    np.testing.assert_allclose(with_it, [0.7981389 / 2], rtol=1e-6)  # it still counts as one of the Q lists


def test_a_list_weighs_by_its_positives() -> None:
    """Two positives at equal logits cost two times log(n), not log(n) split between them."""
    loss = listwise_losses(tf.zeros([4, 1]), _batch(_one_task([1, 1, 0, 0])), 4)
    np.testing.assert_allclose(loss, [2 * np.log(4)], rtol=1e-6)


def test_gradient_is_positives_times_softmax_minus_label() -> None:
    logits, labels = _random(6)
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(listwise_losses(values, _batch(labels, padding_lists=1), 6))
    expected, start = [], 0
    for rows in labels:
        scores = np.exp(logits[start : start + len(rows)].astype(np.float64))
        start += len(rows)
        expected.append((rows.sum(axis=0) * scores / scores.sum(axis=0) - rows) / len(labels))
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(total, values)), np.concatenate(expected), atol=1e-6)


def test_to_lists_leaves_out_padding() -> None:
    batch = _batch(_one_task([1, 0, 1], [1]), padding=2, padding_lists=1)
    dense = to_lists(tf.constant([[1.0], [2.0], [3.0], [4.0], [8.0], [9.0]]), batch, 4, -1.0)
    assert dense[:, :, 0].numpy().tolist() == [[1, 2, 3, -1], [4, -1, -1, -1], [-1, -1, -1, -1]]


def test_centre_moves_the_mean_of_the_real_items_to_zero() -> None:
    mask = tf.constant([[[1.0], [1.0], [0.0]], [[0.0], [0.0], [0.0]]])
    centred = centre(tf.constant([[[4.0], [8.0], [77.0]], [[1.0], [1.0], [1.0]]]), mask)
    assert centred[:, :, 0].numpy().tolist() == [[-2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", LOSSES)
def test_compiles_for_xla(name: str) -> None:
    logits, labels = _random(9)
    batch = _batch(labels, padding=3, padding_lists=2)
    values = tf.constant(np.concatenate([logits, np.full((3, 3), np.nan, np.float32)]))
    compiled = tf.function(lambda x: listwise_losses(x, batch, 8, Loss(name)), jit_compile=True)
    np.testing.assert_allclose(compiled(values), listwise_losses(values, batch, 8, Loss(name)), rtol=1e-5)
