"""The sampled softmax against its equation in NumPy float64, and what must not change it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.generative_losses import sampled_softmax

TEMPERATURE = 0.05


def _reference(states: np.ndarray, targets: np.ndarray, negatives: np.ndarray, collides: np.ndarray) -> np.ndarray:
    """Target by target over itself and the negatives that are other items."""

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return one @ other / np.sqrt(one @ one) / np.sqrt(other @ other)

    losses = []
    for state, target, hit in zip(states, targets, collides, strict=True):
        own = cosine(state, target) / TEMPERATURE
        others = [cosine(state, row) / TEMPERATURE for row, same in zip(negatives, hit, strict=True) if not same]
        losses.append(np.log(np.exp(np.array([own, *others])).sum()) - own)
    return np.array(losses)


def _inputs() -> list[np.ndarray]:
    source = np.random.default_rng(0)
    states, targets, negatives = (source.normal(0, 2, (n, 6)) for n in (5, 5, 9))
    collides = source.random((5, 9)) < 0.3
    collides[3] = True  # every negative is the target
    return [states, targets, negatives, collides]


def _loss(states: np.ndarray, targets: np.ndarray, negatives: np.ndarray, collides: np.ndarray) -> np.ndarray:
    vectors = (tf.constant(x, tf.float32) for x in (states, targets, negatives))
    return sampled_softmax(*vectors, tf.constant(collides), TEMPERATURE).numpy()


def test_equals_the_reference() -> None:
    inputs = _inputs()
    np.testing.assert_allclose(_loss(*inputs), _reference(*inputs), rtol=1e-5, atol=1e-5)
    assert _loss(*inputs)[3] == 0.0


def test_lengths_of_vectors_and_rejected_negatives_change_nothing() -> None:
    states, targets, negatives, collides = _inputs()
    before = _loss(states, targets, negatives, collides)
    np.testing.assert_allclose(_loss(3.0 * states, 0.1 * targets, 7.0 * negatives, collides), before, rtol=1e-4, atol=1e-5)
    rejected = collides.all(axis=0) | (np.arange(9) == 2)
    everywhere = collides | rejected
    changed = np.where(rejected[:, None], 100.0, negatives)
    np.testing.assert_allclose(
        _loss(states, targets, changed, everywhere), _loss(states, targets, negatives, everywhere), rtol=1e-5, atol=1e-6
    )


def test_no_target_and_zero_vectors_are_finite() -> None:
    states, targets, negatives, collides = _inputs()
    assert _loss(states[:0], targets[:0], negatives, collides[:0]).shape == (0,)
    zeros = tf.zeros([2, 6])
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        loss = tf.reduce_sum(sampled_softmax(zeros, zeros, tf.constant(negatives, tf.float32), tf.zeros([2, 9], tf.bool), TEMPERATURE))
    assert np.isfinite(loss) and np.isfinite(tape.gradient(loss, zeros)).all()
