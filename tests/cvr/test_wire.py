"""Protobuf's wire format in NumPy against a plain encoder and TensorFlow's own protobuf."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr import records, wire
from cvr.records import Bag, CodedBag, ListColumns
from tests.support import random_columns, tiny_spec


def _plain(value: int) -> bytes:
    """One varint, seven bits at a time, the least first; a negative value as its two's complement of 64 bits."""
    rest, found = value % 2**64, bytearray()
    while rest >= 128:
        found.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*found, rest])


def _check(values: np.ndarray) -> None:
    expected = [_plain(int(value)) for value in values]
    payload, counts = wire.varints(values)
    assert payload.dtype == np.uint8 and payload.tobytes() == b"".join(expected)
    assert counts.tolist() == [len(one) for one in expected]


SHORT = st.integers(0, 127)
LONG = st.integers(0, 64).flatmap(lambda bits: st.integers(-(2**63), 2**63 - 1).map(lambda value: value >> bits))


@settings(max_examples=200, deadline=None)
@given(st.lists(SHORT | LONG, max_size=60), st.integers(0, 200))
def test_varints_equal_a_plain_encoder(values: list[int], short: int) -> None:
    _check(np.array([*values, *range(min(short, 127))], np.int64))


@pytest.mark.parametrize("bits", range(0, 64, 7))
def test_the_first_and_last_value_of_every_length(bits: int) -> None:
    edge = np.array([2**bits - 1, 2**bits], np.uint64).view(np.int64)
    _check(edge)
    _check(np.concatenate([np.zeros(9, np.int64), edge]))  # mostly short ones


@pytest.mark.parametrize("long", [0, 1, 24, 25, 26, 99, 100])
@pytest.mark.parametrize("largest", [2**7, 2**14, 2**55, 2**56, 2**62, 2**63 - 1, -1])
def test_any_share_of_long_values(long: int, largest: int) -> None:
    random = np.random.default_rng(long)
    values = random.permutation(np.concatenate([np.full(long, largest), random.integers(0, 128, 100 - long)]))
    _check(values.astype(np.int64))


@pytest.mark.parametrize("size", [wire._BLOCK - 1, wire._BLOCK, wire._BLOCK + 1, 2 * wire._BLOCK + 5])
def test_more_values_than_a_block(size: int) -> None:
    random = np.random.default_rng(size)
    values = random.integers(0, 2**63, size) >> random.integers(0, 63, size)
    values[: size // 2] &= 127  # the first block is of short values, the others are mixed
    _check(values)


def test_no_values_and_other_types() -> None:
    _check(np.zeros(0, np.int64))
    payload, counts = wire.varints(np.array([1, 300], np.int32))
    assert payload.tobytes() == b"\x01\xac\x02" and counts.tolist() == [1, 2]


BAGS = st.lists(st.lists(SHORT | LONG, max_size=4), max_size=6)


@settings(max_examples=150, deadline=None)
@given(BAGS, st.data())
def test_bags_that_occur_many_times(bags: list[list[int]], data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, len(bags) - 1), max_size=12)) if bags else []
    values = np.array([value for bag in bags for value in bag], np.int64)
    lengths = np.array([len(bag) for bag in bags], np.int64)
    payloads = wire.binary(wire.words(values, 8), 8 * lengths)
    encoded = [b"".join(value.to_bytes(8, "little", signed=True) for value in bag) for bag in bags]
    assert payloads.to_pylist() == encoded
    payload, sizes = wire.taken_bags(payloads, np.array(codes, np.int64))
    assert payload.tobytes() == b"".join(encoded[code] for code in codes)
    assert sizes.tolist() == [len(encoded[code]) for code in codes]
    half = len(bags) // 2
    part = [code for code in codes if code >= half]
    payload, _ = wire.taken_bags(payloads.slice(half), np.array(part, np.int64) - half)
    assert payload.tobytes() == b"".join(encoded[code] for code in part)


def test_words_of_four_bytes() -> None:
    values = np.array([0, 1, 258, 2**31 + 3, 2**32 - 1])
    assert wire.words(values, 4).tobytes() == b"".join(int(value).to_bytes(4, "little") for value in values)
    assert wire.words(values[:0], 4).tobytes() == b""
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError, match=f"an n-gram id is from 0 to 2\\^32 - 1, not {wrong}"):
            wire.words(np.array([wrong]), 4)


def test_segment_sums() -> None:
    assert wire.segment_sums(np.array([1, 2, 3, 4]), np.array([2, 0, 1, 1, 0])).tolist() == [3, 0, 3, 4, 0]
    assert wire.segment_sums(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


@pytest.mark.parametrize("length", [1, 100, 127, 128, 129, 300])
def test_examples_with_keys_of_any_length(length: int) -> None:
    writer, key = wire.ExampleWriter(2), "k" * length
    writer.int64(key, np.array([5, 2**40, -1]), np.array([1, 2]))
    writer.float32("f", np.array([0.5, 1.5]), np.array([2, 0]))
    writer.bytes_("b", [b"x", b""])
    first, second = (tf.train.Example.FromString(record).features.feature for record in writer.finish().to_pylist())
    assert list(first[key].int64_list.value) == [5] and list(second[key].int64_list.value) == [2**40, -1]
    assert list(first["f"].float_list.value) == [0.5, 1.5] and list(second["f"].float_list.value) == []
    assert [list(one["b"].bytes_list.value) for one in (first, second)] == [[b"x"], [b""]]


# Bags by code in records ----------------------------------------------------------------------------------------------------------


def _coded(random: np.random.Generator, rows: int, empty: bool) -> CodedBag:
    lengths = random.integers(0 if empty else 1, 4, 7)
    lengths[0] = 0 if empty else 1
    distinct = Bag(random.integers(0, 2**31, int(lengths.sum())) >> random.integers(0, 31, int(lengths.sum())), lengths)
    return CodedBag(distinct, random.integers(0, 7, rows))


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("lists", [1, 30])
def test_coded_bags_are_encoded_like_plain_ones(lists: int, empty: bool) -> None:
    spec, random = tiny_spec(), np.random.default_rng(lists)
    columns = random_columns(spec, lists)
    coded = {name: _coded(random, len(bag.lengths), empty) for name, bag in columns.bags.items()}
    plain = {name: Bag(bag.values, bag.lengths) for name, bag in coded.items()}
    assert {name: len(bag.lengths) for name, bag in coded.items()} == {"query": lists, "tags": int(columns.lengths.sum())}
    assert records.encode(spec, _with(columns, coded)) == records.encode(spec, _with(columns, plain))


def _with(columns: ListColumns, bags: dict[str, Bag] | dict[str, CodedBag]) -> ListColumns:
    return dataclasses.replace(columns, bags=bags)


def test_what_coded_bags_hold() -> None:
    bag = CodedBag(Bag(np.array([5, 6, 7]), np.array([2, 0, 1])), np.array([2, 0, 1, 0]))
    assert bag.lengths.tolist() == [1, 2, 0, 2] and bag.values.tolist() == [7, 5, 6, 5, 6]
    assert bag.firsts(9).tolist() == Bag(bag.values, bag.lengths).firsts(9).tolist() == [7, 5, 9, 5]
    none = CodedBag(Bag(np.zeros(0, np.int64), np.array([0])), np.array([0, 0]))
    assert none.values.tolist() == [] and none.firsts(9).tolist() == [9, 9]
