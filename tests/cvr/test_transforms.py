"""Hashing, n-grams, scaling and missing values: golden values, references in plain Python, and the reserved ids."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr import transforms
from cvr.transforms import EMPTY, FIRST_ID, PAD, UNKNOWN, UNSEEN

# 4 + farmhash::Fingerprint64(text) mod (2^63 - 5), written down once; they must never change, since records hold them.
GOLDEN = {
    "a": 3_694_432_073_954_588_140,
    "hotel": 6_029_285_933_319_948_595,
    "운동화": 7_577_275_033_080_900_088,
    "i000001": 1_772_643_603_267_449_617,
}

# What they were when they were written down, equal to the references in plain Python: records hold the first, trained tables follow both.
NGRAMS = [1_839_006_939, 1_748_543_095]
SALTED = [[957, 35], [829, 893]]


def test_golden_hashes() -> None:
    assert dict(zip(GOLDEN, transforms.hash_strings(list(GOLDEN)).numpy().tolist(), strict=True)) == GOLDEN


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(), max_size=5))
def test_real_ids_start_above_the_reserved_ones(texts: list[str]) -> None:
    hashed = transforms.hash_strings(np.array(texts, object) if texts else np.zeros(0, object)).numpy()
    assert hashed.dtype == np.int64 and len(hashed) == len(texts)
    assert all(value == EMPTY if text == "" else value >= FIRST_ID for value, text in zip(hashed, texts, strict=True))


def test_the_reserved_ids_differ() -> None:
    assert [PAD, UNSEEN, EMPTY, UNKNOWN, FIRST_ID] == [0, 1, 2, 3, 4]


def test_rows_of_ids_keep_reserved_rows_and_fold_the_others() -> None:
    ids = tf.constant([0, 1, 2, 3, 4, 13, 14, 2**62 + 9], tf.int64)
    expected = [0, 1, 2, 3, 4, 13, 4, 4 + (2**62 + 9 - 4) % 10]
    assert transforms.rows_of_ids(ids, 10).numpy().tolist() == expected


def test_rows_of_a_vocabulary() -> None:
    vocabulary = ["phone", "tablet", "desktop"]
    ids = transforms.hash_strings([["desktop", "phone"], ["watch", ""]])
    assert transforms.rows_of_vocabulary(ids, vocabulary).numpy().tolist() == [[6, 4], [UNKNOWN, EMPTY]]
    assert transforms.rows_of_vocabulary(tf.constant([PAD, UNSEEN], tf.int64), vocabulary).numpy().tolist() == [
        PAD,
        UNSEEN,
    ]


def _mix(value: int) -> int:
    product = value * 0x9E3779B97F4A7C15 % 2**64
    return product ^ (product >> 32)


def _ngram(points: list[int]) -> int:
    hashed = _mix(len(points))
    for point in points:
        hashed = _mix(hashed ^ point)
    return FIRST_ID + hashed % 2**31


def _reference(text: str, orders: list[int], max_chars: int) -> list[int]:
    points = [ord(c) for c in text][:max_chars]
    if not points:
        return [EMPTY]
    if len(points) < min(orders):
        return [_ngram(points)]
    return [_ngram(points[i : i + n]) for n in orders for i in range(len(points) - n + 1)]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab z9운동화é🙂"), max_size=12), min_size=1, max_size=4),
    st.sampled_from([[1], [2], [3], [2, 3], [1, 4]]),
)
def test_ngrams_equal_the_reference(texts: list[str], orders: list[int]) -> None:
    found = transforms.char_ngrams(tf.constant(texts), orders, 8)
    assert found.to_list() == [_reference(text, orders, 8) for text in texts]


def test_ngrams_are_lower_cased_counted_in_code_points_and_never_cross_strings() -> None:
    upper, lower = transforms.char_ngrams(tf.constant(["ÉA", "éa"]), [2], 64).to_list()
    assert upper == lower and len(upper) == 1
    both = transforms.char_ngrams(tf.constant(["ab", "cd"]), [2], 64).to_list()
    assert both == [_reference("ab", [2], 64), _reference("cd", [2], 64)]
    broken = transforms.char_ngrams(tf.constant([b"\xffa"]), [2], 64).to_list()
    assert broken == [_reference("\ufffda", [2], 64)]


def test_ngrams_by_hand() -> None:
    """Orders one after the other; a composed letter is one code point, a letter with a combining accent two; ids written down once."""
    counts = [len(row) for row in transforms.char_ngrams(tf.constant(["운동화", "é", "e\u0301", "🙂🙂🙂", "ab"]), [1, 2, 3], 64).to_list()]
    assert counts == [3 + 2 + 1, 1, 2 + 1, 3 + 2 + 1, 2 + 1]
    assert transforms.char_ngrams(tf.constant(["운동화"]), [2], 64).to_list() == [NGRAMS]
    same = transforms.char_ngrams(tf.constant(["aaaa"]), [2], 64).to_list()[0]
    assert len(same) == 3 and len(set(same)) == 1  # as often as it occurs
    cut, short = (transforms.char_ngrams(tf.constant([text]), [1], 2).to_list() for text in ("운동화가", "운동"))
    assert cut == short and len(cut[0]) == 2


def test_salted_rows_are_written_down_once_and_keep_reserved_ids() -> None:
    ids = tf.constant([0, 1, 2, 3, 4, 2**62], tf.int64)
    found = transforms.salted_rows(ids, 1000, "genre", 2).numpy()
    assert found[:4].tolist() == [[i, i] for i in range(4)]
    assert found[4:].tolist() == SALTED
    assert (found[4:] != transforms.salted_rows(ids, 1000, "title", 2).numpy()[4:]).all()
    np.testing.assert_array_equal(transforms.salted_rows(ids, 1000, "genre", 1)[:, 0], found[:, 0])


def test_ngrams_of_nothing() -> None:
    assert transforms.char_ngrams(tf.zeros([0], tf.string), [3], 64).to_list() == []
    assert transforms.char_ngrams(tf.constant([""]), [1, 3], 64).to_list() == [[EMPTY]]


def test_signed_log1p() -> None:
    found = transforms.signed_log1p(tf.constant([0.0, 1.0, -1.0, 99.0])).numpy()
    np.testing.assert_allclose(found, [0, np.log(2), -np.log(2), np.log(100)], rtol=1e-6)


def test_standardise_clips_and_survives_zero_variance() -> None:
    values = tf.constant([[3.0, 5.0], [1000.0, 5.0]])
    found = transforms.standardise(values, tf.constant([1.0, 5.0]), tf.constant([2.0, 0.0])).numpy()
    np.testing.assert_array_equal(found, [[1.0, 0.0], [10.0, 0.0]])


def test_states_of_numericals() -> None:
    values = tf.constant([1.5, 0.0, float("nan"), float("-inf"), float("inf")])
    present, missing, unseen = (part.numpy().tolist() for part in transforms.split_states(values))
    assert present == [1.5, 0, 0, 0, 0] and missing == [0, 0, 1, 0, 1] and unseen == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("jit", [False, True])
def test_transforms_run_in_a_graph(jit: bool) -> None:
    function = tf.function(
        lambda v: transforms.standardise(transforms.signed_log1p(v), tf.constant(0.0), tf.constant(1.0)),
        jit_compile=jit,
    )
    np.testing.assert_allclose(function(tf.constant([1.0])).numpy(), [np.log(2)], rtol=1e-6)
