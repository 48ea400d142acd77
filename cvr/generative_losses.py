"""Losses of generative pre-training: which item and which action comes next."""

from __future__ import annotations

import tensorflow as tf

REJECTED = -1e6
"""Logit of a negative that is the target itself."""


def sampled_softmax(
    states: tf.Tensor, targets: tf.Tensor, negatives: tf.Tensor, collides: tf.Tensor, temperature: float
) -> tf.Tensor:
    """-log of the target's share among itself and M sampled items, by cosine (GPSD, KDD'25; PAPERS 3.12); float32 `[P]`.

        L_p = log( exp(z_pp) + sum_m exp(z_pm) ) - z_pp        z = cos(state_p, item) / temperature

    states, targets `[P, d]`, negatives `[M, d]`, shared by all P. Where `collides` bool `[P, M]` negative m is target p itself, and is left
    out. Negatives are uniform, so that no correction by their frequency (logQ) changes a difference of logits.
    """
    states, targets, negatives = (tf.math.l2_normalize(tf.cast(x, tf.float32), axis=-1) for x in (states, targets, negatives))
    positive = tf.reduce_sum(states * targets, axis=-1) / temperature
    others = tf.matmul(states, negatives, transpose_b=True) / temperature
    others = tf.where(collides, tf.constant(REJECTED), others)
    return tf.reduce_logsumexp(tf.concat([positive[:, None], others], axis=1), axis=1) - positive
