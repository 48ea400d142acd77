"""Hashing, n-grams, scaling and missing values: pure TensorFlow, the same code in pipelines, training and export.

Reserved ids keep four things apart that are often confused (PAPERS R4, R36): padding, a feature that a partition does not have, a value
that is null or empty where the feature exists, and a value outside an explicit vocabulary. Real ids start at `FIRST_ID`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

PAD = 0
"""Fills slots that hold nothing; its embedding row is zero and is masked."""
UNSEEN = 1
"""The feature is absent from this partition or request, for example before it was launched."""
EMPTY = 2
"""The feature exists and its value is null or empty."""
UNKNOWN = 3
"""The value is not in the feature's explicit vocabulary."""
FIRST_ID = 4
RESERVED_ROWS = 4

UNSEEN_VALUE = float("-inf")
"""What a numerical feature holds when it is unseen; NaN means missing."""

_HASH_RANGE = 2**63 - 1 - FIRST_ID
_MIX = np.int64(np.uint64(0x9E3779B97F4A7C15).view(np.int64))
_NGRAM_BITS = 31


def hash_strings(values: tf.Tensor | np.ndarray | Sequence[str]) -> tf.Tensor:
    """Hashes strings to ids in [4, 2^63): 4 + farmhash64(value) mod (2^63 - 5); the empty string becomes EMPTY.

    Stable across processes and machines (PAPERS R34). Any shape; int64 of the same shape.
    """
    strings = tf.convert_to_tensor(values, dtype=tf.string)
    hashed = tf.strings.to_hash_bucket_fast(strings, _HASH_RANGE) + FIRST_ID
    return tf.where(tf.equal(strings, ""), tf.constant(EMPTY, tf.int64), hashed)


def rows_of_ids(ids: tf.Tensor, buckets: int) -> tf.Tensor:
    """Row of an embedding table with `buckets` + 4 rows: reserved ids keep their row, others 4 + (id - 4) mod buckets."""
    return tf.where(ids < FIRST_ID, ids, FIRST_ID + tf.math.floormod(ids - FIRST_ID, tf.constant(buckets, ids.dtype)))


def salted_rows(ids: tf.Tensor, buckets: int, salt: str, count: int) -> tf.Tensor:
    """Rows by `count` hash functions of a salt, `[..., count]`: reserved ids keep their row, others 4 + h_j(id) mod buckets.

    h_j(id) = mix(mix(id ^ s_j)), s_j = hash of the text "<salt>/<j>" and mix that of `char_ngrams`: any two of them are as independent as
    those of unlike texts, and stay the same in every process.
    """
    with tf.init_scope():  # known before any graph is built
        salts = hash_strings([f"{salt}/{place}" for place in range(count)]).numpy()
    mixed = _mix(_mix(tf.bitwise.bitwise_xor(ids[..., None], tf.constant(salts))))
    real = FIRST_ID + tf.math.floormod(mixed, tf.constant(buckets, ids.dtype))
    return tf.where(ids[..., None] < FIRST_ID, ids[..., None], real)


def rows_of_vocabulary(ids: tf.Tensor, vocabulary: Sequence[str]) -> tf.Tensor:
    """Row of a table with one row per vocabulary entry: 4 + index for a listed value, UNKNOWN for any other real id."""
    with tf.init_scope():  # the listed values are known before any graph is built
        known = hash_strings(list(vocabulary)).numpy()
    order = np.argsort(known)
    place = tf.minimum(tf.searchsorted(tf.constant(known[order]), tf.reshape(ids, [-1])), len(known) - 1)
    place = tf.reshape(place, tf.shape(ids))
    hit = tf.equal(tf.gather(tf.constant(known[order]), place), ids)
    rows = FIRST_ID + tf.gather(tf.constant(order, tf.int64), place)
    return tf.where(ids < FIRST_ID, ids, tf.where(hit, rows, tf.constant(UNKNOWN, tf.int64)))


def char_ngrams(texts: tf.Tensor, orders: Sequence[int], max_chars: int) -> tf.RaggedTensor:
    """Ids of the code-point n-grams of each string: int64 ragged [R, n-grams], orders one after the other.

    n-grams are taken per string, never across strings, over Unicode code points (invalid UTF-8 becomes U+FFFD) of the lower-cased text,
    cut to `max_chars`. A non-empty string shorter than every order gives one id, that of the whole string; an empty one gives [EMPTY].
    An n-gram's id is 4 + h mod 2^31, h = mix(... mix(mix(n) ^ c_1) ... ^ c_n), mix(x) = x' ^ (x' >>> 32), x' = x * 0x9E3779B97F4A7C15.
    """
    points = tf.strings.unicode_decode(tf.strings.lower(texts, encoding="utf-8"), "UTF-8", errors="replace")[:, :max_chars]
    lengths = tf.cast(points.row_lengths(), tf.int32)
    smallest = min(orders)
    short = tf.logical_and(lengths > 0, lengths < smallest)
    parts = [_ngrams_of_order(points, order) for order in orders]
    parts.append(_whole(points, short))
    parts.append(_constant_where(tf.equal(lengths, 0), EMPTY))
    return tf.concat(parts, axis=1)


def _mix(values: tf.Tensor) -> tf.Tensor:
    product = values * tf.constant(_MIX)
    high = tf.bitwise.bitwise_and(tf.bitwise.right_shift(product, tf.constant(32, tf.int64)), tf.constant(0xFFFFFFFF, tf.int64))
    return tf.bitwise.bitwise_xor(product, high)


def _finish(hashed: tf.Tensor) -> tf.Tensor:
    return FIRST_ID + tf.bitwise.bitwise_and(hashed, tf.constant(2**_NGRAM_BITS - 1, tf.int64))


def _ngrams_of_order(points: tf.RaggedTensor, order: int) -> tf.RaggedTensor:
    lengths = points.row_lengths()
    counts = tf.maximum(lengths - order + 1, 0)
    rows = tf.RaggedTensor.from_row_lengths(points.flat_values, lengths)
    within = tf.ragged.range(counts)
    starts = within.flat_values + tf.gather(rows.row_starts(), within.value_rowids())
    codes = tf.cast(points.flat_values, tf.int64)
    hashed = _mix(tf.fill(tf.shape(starts), tf.constant(order, tf.int64)))
    for offset in range(order):
        hashed = _mix(tf.bitwise.bitwise_xor(hashed, tf.gather(codes, starts + offset)))
    return within.with_flat_values(_finish(hashed))


def _whole(points: tf.RaggedTensor, chosen: tf.Tensor) -> tf.RaggedTensor:
    """One id per chosen row, the n-gram hash of all its code points; none for the other rows."""
    dense = tf.cast(points.to_tensor(default_value=0)[:, :8], tf.int64)
    lengths = tf.cast(tf.minimum(points.row_lengths(), 8), tf.int64)
    hashed = _mix(lengths)
    for offset in range(7):
        column = dense[:, offset : offset + 1]
        code = tf.reduce_sum(column, axis=1)
        hashed = tf.where(lengths > offset, _mix(tf.bitwise.bitwise_xor(hashed, code)), hashed)
    return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(_finish(hashed), chosen), tf.cast(chosen, tf.int64))


def _constant_where(chosen: tf.Tensor, value: int) -> tf.RaggedTensor:
    flags = tf.cast(chosen, tf.int64)
    return tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(flags)], tf.constant(value, tf.int64)), flags)


def signed_log1p(values: tf.Tensor) -> tf.Tensor:
    """sign(x) * log(1 + |x|) (PAPERS R3; negatives are allowed)."""
    return tf.sign(values) * tf.math.log1p(tf.abs(values))


def standardise(values: tf.Tensor, mean: tf.Tensor, std: tf.Tensor, clip: float = 10.0) -> tf.Tensor:
    """(x - mean) / std cut to [-clip, clip]; a column of zero variance becomes 0, not NaN."""
    scaled = tf.where(std > 0, (values - mean) / tf.where(std > 0, std, tf.ones_like(std)), tf.zeros_like(values))
    return tf.clip_by_value(scaled, -clip, clip)


def split_states(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(value with 0 where there is none, 1 where missing (NaN, +inf), 1 where unseen (-inf)), all of the same type and shape."""
    unseen = tf.equal(values, UNSEEN_VALUE)
    missing = tf.logical_and(tf.logical_not(tf.math.is_finite(values)), tf.logical_not(unseen))
    present = tf.where(tf.math.is_finite(values), values, tf.zeros_like(values))
    return present, tf.cast(missing, values.dtype), tf.cast(unseen, values.dtype)
