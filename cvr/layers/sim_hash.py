"""Codes of vectors whose Hamming distance tells their angle."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

WORD = 64
"""Bits of a code's word."""
_POWERS = (np.uint64(1) << np.arange(WORD, dtype=np.uint64)).view(np.int64)


@tf.keras.utils.register_keras_serializable("cvr")
class SimHash(tf.keras.layers.Layer):
    """sig_j(e) = 1[e . H_j > 0],  j = 0 .. m - 1,  columns H_j drawn from N(0, I) (Charikar 2002; ETA 2021, PAPERS 3.11).

    Of two vectors with the angle theta a bit is equal with the probability 1 - theta / pi, so that codes differ in m theta / pi bits on
    average. H is drawn once from `seed` and never trained; it is a weight, so that checkpoints and exports hold it. Codes pass no gradient.
    Products are taken in float64, in which those of float32 numbers are exact and their sums hardly ever round to another sign: else a code
    could depend on how many vectors are hashed at a time, and a served model choose other events than the trained one. Zero has the code 0.
    """

    def __init__(self, bits: int, seed: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.bits, self.seed = bits, seed

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes H [d, m], which is not trained."""
        shape = [int(input_shape[-1]), self.bits]
        drawn = tf.keras.initializers.Constant(np.random.default_rng(self.seed).standard_normal(shape))
        self.directions = self.add_weight("directions", shape=shape, initializer=drawn, trainable=False, experimental_autocast=False)
        super().build(input_shape)

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        """`[..., d]` -> int64 `[..., ceil(m / 64)]`: bit i of word w is sig_{64 w + i}, bits that are left over are 0."""
        vectors = tf.stop_gradient(tf.cast(vectors, tf.float64))
        return tf.stack([self._word(vectors, first) for first in range(0, self.bits, WORD)], axis=-1)

    def _word(self, vectors: tf.Tensor, first: int) -> tf.Tensor:
        """The word that begins with bit `first`, `[...]`. One word at a time, because its bits take 64 times the room of the word."""
        bits = tf.matmul(vectors, tf.cast(self.directions[:, first : first + WORD], tf.float64)) > 0
        powers = tf.constant(_POWERS[: bits.shape[-1]])  # a choice between them and 0 takes three times as long
        return tf.reduce_sum(tf.cast(bits, tf.int64) * powers, axis=-1)

    def multiply_adds(self, width: int) -> int:
        """Of one vector of width d: d m."""
        return width * self.bits

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "bits": self.bits, "seed": self.seed}


def differing_bits(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Number of bits in which two words differ: int64, shapes that broadcast -> float32, exact.

    TensorFlow counts bits in uint8, which holds the 64 of a word but not the sum of five words; and its integers of 32 bits add on the CPU
    only, while floats add anywhere.
    """
    return tf.cast(tf.raw_ops.PopulationCount(x=tf.bitwise.bitwise_xor(one, other)), tf.float32)
