"""The losses of a task's scores in their lists: listwise softmax, and two whose scores have a level and so mean probabilities.

All are sums over the items of a list, averaged over the Q real lists of a batch; s_i is the logit of item i, y_i its label (0 or 1).
Only scalars per item are laid out as lists. What a logit means under each loss is in `cvr.links`.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf
import tensorflow_ranking as tfr

from cvr.data import Batch
from cvr.errors import CvrError

LOSSES = ("softmax", "calibrated_softmax", "regression_compatible")
_ABSENT = -1e30
"""A log-score that adds exactly 0 to a sum of exponentials, and whose difference from itself is not NaN."""


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss by name, with y0 of the calibrated softmax and alpha of the regression-compatible loss. Raises CvrError on other values."""

    name: str = "softmax"
    anchor_label: float = 1.0
    listwise_share: float = 0.5

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise CvrError(f"--loss={self.name}: there are {', '.join(LOSSES)}")
        if not (self.anchor_label > 0 and math.isfinite(self.anchor_label)):
            raise CvrError(f"--anchor_label={self.anchor_label} must be above 0")
        if not 0 <= self.listwise_share <= 1:
            raise CvrError(f"--listwise_share={self.listwise_share} must be from 0 to 1")

    @property
    def fixes_level(self) -> bool:
        """Whether adding a constant to a list's logits changes the loss, so that logits need a bias."""
        return self.name != "softmax"

    def first_bias(self, rate: float) -> float:
        """The constant logit of least loss where a share `rate` of the items is positive: log(rate / y0), or log(rate / (1 - rate))."""
        rate = min(max(rate, 1e-6), 1 - 1e-6)
        return math.log(rate / (self.anchor_label if self.name == "calibrated_softmax" else 1 - rate))


def to_lists(values: tf.Tensor, batch: Batch, max_list_size: int, fill: float) -> tf.Tensor:
    """Flat item values `[N, T]` -> `[B, L, T]`, `fill` where a list has no such item. Only scalars per item take this way."""
    lists = tf.shape(batch["list_size"])[0]
    places = batch["list_index"] * max_list_size + batch["item_offset"]
    places = tf.where(batch["item_mask"] > 0, places, -1)  # which is left out of the sum
    flat = tf.math.unsorted_segment_sum(values - fill, places, lists * max_list_size) + fill
    return tf.reshape(flat, [lists, max_list_size, values.shape[1]])


def centre(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Subtracts each list's mean logit: logits `[B, L, T]`, mask `[B, L, 1]` of real items.

    TF-Ranking's softmax masks padding with ln(1e-10) = -23, not with minus infinity, so logits far below zero would lose to the padding;
    the softmax itself is blind to the shift.
    """
    total = tf.reduce_sum(logits * mask, axis=1, keepdims=True)
    mean = tf.math.divide_no_nan(total, tf.reduce_sum(mask, axis=1, keepdims=True))
    return (logits - tf.stop_gradient(mean)) * mask


def softmax_loss(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """- sum_i y_i log( exp(s_i) / sum_j exp(s_j) ) by task (paper 2.2, PAPERS R14): `[B, L, T]`, labels -1 at padding -> `[T]`.

    The sum is TF-Ranking's `SoftmaxLoss`. A list counts by its number of positives; one without any adds exactly 0.
    """
    centred = centre(scores, tf.cast(labels >= 0.0, scores.dtype)[:, :, :1])
    loss = tfr.keras.losses.SoftmaxLoss(reduction=tf.keras.losses.Reduction.SUM)
    return tf.stack([loss(labels[:, :, task], centred[:, :, task]) for task in range(int(labels.shape[2]))])


def calibrated_softmax_loss(scores: tf.Tensor, labels: tf.Tensor, anchor_label: float) -> tf.Tensor:
    """Softmax with an anchor, a virtual item of score 0 and label y0: `[B, L, T]`, labels -1 at padding -> `[T]`.

        - sum_i y_i log( exp(s_i) / Z ) - y0 log( 1 / Z ),   Z = 1 + sum_j exp(s_j)

    Yan et al., "Scale Calibration of Deep Ranking Models", KDD 2022 (PAPERS 3.15). Least where y0 exp(s_i) = E[y_i], whatever the other
    items are. A list without positives adds y0 log Z, which pulls its scores down: it is evidence, too.
    """
    mask = labels >= 0.0
    inside = tf.where(mask, scores, _ABSENT)
    log_z = tf.reduce_logsumexp(tf.concat([tf.zeros_like(inside[:, :1]), inside], axis=1), axis=1)  # 0 for a list of padding
    positive = tf.where(mask, labels, 0.0)
    weight = tf.reduce_sum(positive, axis=1) + anchor_label
    return tf.reduce_sum(weight * log_z - tf.reduce_sum(positive * scores, axis=1), axis=0)


def regression_compatible_loss(scores: tf.Tensor, labels: tf.Tensor, listwise_share: float) -> tf.Tensor:
    """Sigmoid cross-entropy joined with ListCE of sigmoids: `[B, L, T]`, labels -1 at padding -> `[T]`.

        (1 - alpha) sum_i BCE(y_i, sigma(s_i))  -  alpha sum_i y_i log( sigma(s_i) / sum_j sigma(s_j) )

    Bai et al., "Regression Compatible Listwise Objectives for Calibrated Ranking with Binary Relevance", CIKM 2023 (PAPERS 3.15). Both
    parts are least at sigma(s_i) = E[y_i], so neither pulls the other away. As in the softmax loss, and unlike a list's mean, a list counts
    in the second part by its number of positives: then the optimum is exact also where that number varies.
    """
    mask = labels >= 0.0
    positive = tf.where(mask, labels, 0.0)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(positive, scores)
    regression = tf.reduce_sum(tf.where(mask, entropy, 0.0), axis=[0, 1])
    log_sigmoid = tf.math.log_sigmoid(scores)
    log_sum = tf.reduce_logsumexp(tf.where(mask, log_sigmoid, _ABSENT), axis=1, keepdims=True)
    listwise = tf.reduce_sum(positive * (log_sum - log_sigmoid), axis=[0, 1])
    return (1.0 - listwise_share) * regression + listwise_share * listwise


def listwise_losses(logits: tf.Tensor, batch: Batch, max_list_size: int, loss: Loss = Loss()) -> tf.Tensor:  # noqa: B008 - frozen
    """The loss of each task, per real list of the batch: logits `[N, T]` -> float32 `[T]`. Padding items and lists add exactly 0."""
    labels = to_lists(batch["labels"], batch, max_list_size, -1.0)
    scores = to_lists(tf.cast(logits, tf.float32), batch, max_list_size, 0.0)
    if loss.name == "softmax":
        sums = softmax_loss(scores, labels)
    elif loss.name == "calibrated_softmax":
        sums = calibrated_softmax_loss(scores, labels, loss.anchor_label)
    else:
        sums = regression_compatible_loss(scores, labels, loss.listwise_share)
    return sums / tf.maximum(tf.reduce_sum(tf.cast(batch["list_size"] > 0, tf.float32)), 1.0)
