"""The listwise softmax loss per task, on flat items."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_ranking as tfr

from cvr.data import Batch


def to_lists(values: tf.Tensor, batch: Batch, max_list_size: int, fill: float) -> tf.Tensor:
    """Flat item values `[N, T]` -> `[B, L, T]`, `fill` where a list has no such item. Only scalars per item take this way."""
    places = tf.stack([batch["list_index"], batch["item_offset"]], axis=1)
    real = tf.where(batch["item_mask"] > 0)[:, 0]
    lists = tf.fill([tf.shape(batch["list_size"])[0], max_list_size, values.shape[1]], tf.constant(fill, values.dtype))
    return tf.tensor_scatter_nd_update(lists, tf.gather(places, real), tf.gather(values, real))


def centre(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Subtracts each list's mean logit: logits `[B, L, T]`, mask `[B, L, 1]` of real items.

    TF-Ranking's softmax masks padding with ln(1e-10) = -23, not with minus infinity, so logits far below zero would lose to the padding;
    the softmax itself is blind to the shift.
    """
    total = tf.reduce_sum(logits * mask, axis=1, keepdims=True)
    mean = tf.math.divide_no_nan(total, tf.reduce_sum(mask, axis=1, keepdims=True))
    return (logits - tf.stop_gradient(mean)) * mask


def listwise_losses(logits: tf.Tensor, batch: Batch, max_list_size: int) -> tf.Tensor:
    """Softmax cross-entropy of each task (paper 2.2, PAPERS R14): float32 `[T]`.

        L_t = - 1/Q sum_q sum_i y_it log( exp(s_it) / sum_j exp(s_jt) )

    over the Q real lists of the batch; a list counts by its number of positives, one without any adds 0. The sum itself is TF-Ranking's
    `SoftmaxLoss`.
    """
    labels = to_lists(batch["labels"], batch, max_list_size, -1.0)
    mask = tf.cast(labels >= 0.0, tf.float32)[:, :, :1]
    scores = centre(to_lists(tf.cast(logits, tf.float32), batch, max_list_size, 0.0), mask)
    loss = tfr.keras.losses.SoftmaxLoss(reduction=tf.keras.losses.Reduction.SUM)
    lists = tf.maximum(tf.reduce_sum(tf.cast(batch["list_size"] > 0, tf.float32)), 1.0)
    tasks = range(int(labels.shape[2]))
    return tf.stack([loss(labels[:, :, task], scores[:, :, task]) / lists for task in tasks])
