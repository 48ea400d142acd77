"""SimHash against NumPy's packed bits, the law of its distances, and its weight that is never trained."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.sim_hash import WORD, SimHash, differing_bits
from tests.layers.case import policy


def signs(vectors: np.ndarray, bits: int, seed: int) -> np.ndarray:
    """The code's bits as the equation has them, float64: bool `[..., m]`."""
    return vectors @ np.random.default_rng(seed).standard_normal((vectors.shape[-1], bits)) > 0


def packed(vectors: np.ndarray, bits: int, seed: int) -> np.ndarray:
    """The same as bytes, the first bit lowest: uint8 `[..., ceil(m / 8)]`."""
    return np.packbits(signs(vectors, bits, seed), axis=-1, bitorder="little")


@pytest.mark.parametrize("bits", [1, 7, 63, 64, 65, 200])
def test_words_are_numpy_s_packed_bits(bits: int) -> None:
    vectors = np.random.default_rng(1).normal(0, 1, (3, 4, 5))
    layer = SimHash(bits, seed=3)
    codes = layer(tf.constant(vectors, tf.float32)).numpy()
    assert codes.shape == (3, 4, -(-bits // WORD)) and codes.dtype == np.int64
    room = codes.view(np.uint8)[..., : -(-bits // 8)]  # little-endian words, as packbits fills bytes
    np.testing.assert_array_equal(room, packed(vectors, bits, 3))
    assert not codes.view(np.uint8)[..., -(-bits // 8) :].any()


def test_distances_are_numpy_s() -> None:
    source = np.random.default_rng(2)
    one, other = source.normal(0, 1, (6, 5)), source.normal(0, 1, (7, 5))
    layer = SimHash(150)
    left, right = (layer(tf.constant(vectors, tf.float32)) for vectors in (one, other))
    found = sum(differing_bits(left[:, None, word], right[None, :, word]) for word in range(3))
    expected = (signs(one, 150, 0)[:, None] != signs(other, 150, 0)[None]).sum(axis=-1)
    np.testing.assert_array_equal(found, expected)
    assert differing_bits(tf.constant([0], tf.int64), tf.constant([-1], tf.int64)).numpy() == [64.0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_bits_are_equal_as_often_as_the_angle_says(share: float) -> None:
    """P(bit equal) = 1 - theta / pi, E[Hamming] = m theta / pi: 20,000 directions, within 4 standard errors."""
    theta, bits = share * np.pi, 20_000
    vectors = np.array([[1.0, 0.0, 0.0], [np.cos(theta), np.sin(theta), 0.0]]) * [[0.2], [7.0]]  # lengths do not matter
    codes = SimHash(bits, seed=5)(tf.constant(vectors, tf.float32))
    distance = float(tf.reduce_sum(differing_bits(codes[0], codes[1])))
    assert abs(distance / bits - share) < 4 * np.sqrt(share * (1 - share) / bits)


def test_equal_directions_opposite_directions_and_zero() -> None:
    layer = SimHash(100)
    vectors = np.random.default_rng(3).normal(0, 1, (1, 4)).astype(np.float32)
    codes = layer(tf.constant(np.concatenate([vectors, 3 * vectors, -vectors, 0 * vectors])))
    distances = [float(tf.reduce_sum(differing_bits(codes[0], other))) for other in codes]
    assert distances[:3] == [0.0, 0.0, 100.0]
    np.testing.assert_array_equal(codes[3], [0, 0])


def test_directions_come_from_the_seed_and_take_no_gradient() -> None:
    vectors = tf.Variable(tf.random.stateless_normal([5, 4], [1, 2]))
    layers = [SimHash(30, seed) for seed in (1, 1, 2)]
    with tf.GradientTape() as tape:
        codes = [layer(vectors) for layer in layers]
        total = tf.reduce_sum(tf.cast(codes[0], tf.float32))
    np.testing.assert_array_equal(codes[0], codes[1])
    assert (codes[0] != codes[2]).numpy().any()
    assert not layers[0].trainable_variables and tape.gradient(total, [vectors, *layers[0].variables]) == [None, None]


def test_a_mixed_policy_keeps_the_directions_in_float32() -> None:
    vectors = np.round(np.random.default_rng(4).normal(0, 1, (50, 4)) * 8) / 8  # exact in bfloat16
    with policy("mixed_bfloat16"):
        layer = SimHash(64)
        codes = layer(tf.constant(vectors, tf.bfloat16))
    assert layer.directions.dtype == tf.float32
    np.testing.assert_array_equal(codes, SimHash(64)(tf.constant(vectors, tf.float32)))


def test_configurable_and_multiply_adds() -> None:
    layer = SimHash.from_config(SimHash(40, 6, name="hash").get_config())
    assert (layer.bits, layer.seed, layer.name) == (40, 6, "hash") and layer.multiply_adds(7) == 280


def test_codes_do_not_depend_on_how_many_are_made_at_a_time() -> None:
    """Also of vectors that lie in the plane between the sides of a direction, up to the rounding of float32."""
    layer = SimHash(64)
    layer(tf.zeros([1, 8]))
    directions = layer.directions.numpy().astype(np.float64)
    vectors = np.random.default_rng(6).normal(0, 1, (2000, 8))
    first = directions[:, 0]
    vectors -= np.outer(vectors @ first / (first @ first), first)
    batch = tf.constant(vectors, tf.float32)
    whole, single = layer(batch).numpy(), np.concatenate([layer(batch[i : i + 1]) for i in range(0, 2000, 20)])
    np.testing.assert_array_equal(whole[::20], single)
    exact = batch.numpy().astype(np.float64) @ first > 0
    np.testing.assert_array_equal(whole[:, 0] & 1, exact)
