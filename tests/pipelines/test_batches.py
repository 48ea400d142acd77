"""Arrow batches as bytes: compact dictionaries, chosen columns, hash partitions, hashes of texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvr.transforms import EMPTY, PAD, hash_strings
from pipelines.batches import (
    coded,
    column,
    concat,
    described,
    from_bytes,
    hash_distinct,
    mix,
    split,
    split_at,
    to_bytes,
)


def _texts(values: list[str | None], kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(values, kind or pa.large_string()).dictionary_encode()


TABLE = pa.table({"n": pa.array([1, 2, 3, 4], pa.int32()), "t": _texts(["b", None, "a", "b"]), "x": [1.5, None, 2.5, 3.5]})


def test_a_table_and_its_name_survive() -> None:
    name, table = from_bytes(to_bytes("rows", TABLE))
    assert name == "rows" and table.replace_schema_metadata(None).equals(TABLE)
    assert described(to_bytes("rows", TABLE)) == ("rows", 4)


@pytest.mark.parametrize(
    ("begin", "length", "values", "dictionary"),
    [
        (0, 4, ["b", None, "a", "b"], ["b", "a"]),
        (1, 2, [None, "a"], ["a"]),
        (1, 1, [None], []),
        (3, 1, ["b"], ["b"]),
        (2, 0, [], []),
    ],
)
def test_slices_carry_the_values_that_they_use_and_no_others(begin: int, length: int, values: list[str], dictionary: list[str]) -> None:
    _, table = from_bytes(to_bytes("rows", TABLE.slice(begin, length)))
    found = table.column("t").unify_dictionaries().combine_chunks()
    found = found.chunk(0) if isinstance(found, pa.ChunkedArray) else found
    assert found.to_pylist() == values and found.dictionary.to_pylist() == dictionary
    assert found.type == TABLE.schema.field("t").type
    assert table.column("n").to_pylist() == [1, 2, 3, 4][begin : begin + length]


def test_a_few_rows_of_a_large_dictionary_take_few_bytes() -> None:
    many = pa.table({"t": _texts([f"{number:032d}" for number in range(10_000)])})
    assert len(to_bytes("rows", many)) > 50_000 and len(to_bytes("rows", many.slice(77, 2))) < 1_000


def test_empty_tables() -> None:
    for empty in (TABLE.slice(0, 0), TABLE.schema.empty_table()):
        name, table = from_bytes(to_bytes("rows", empty))
        assert name == "rows" and len(table) == 0 and table.schema.remove_metadata() == TABLE.schema
    codes, distinct = coded(from_bytes(to_bytes("rows", TABLE.schema.empty_table()))[1], "t")
    assert codes.tolist() == distinct.to_pylist() == []


def test_chosen_columns_in_the_table_s_order_without_those_that_are_not_there() -> None:
    data = to_bytes("rows", TABLE)
    assert from_bytes(data, ("x", "gone", "n"))[1].column_names == ["n", "x"]
    assert from_bytes(data, ("t", "t"))[1].column("t").to_pylist() == ["b", None, "a", "b"]
    assert from_bytes(data, ("n",))[0] == "rows"


def test_pieces_are_joined_by_name_with_one_dictionary() -> None:
    more = pa.table({"n": pa.array([5], pa.int32()), "t": _texts(["c"]), "x": [0.5]})
    found = concat([to_bytes("rows", TABLE), to_bytes("other", more), to_bytes("rows", TABLE.slice(0, 0)), to_bytes("rows", more)])
    assert set(found) == {"rows", "other"}
    assert found["rows"].column("t").num_chunks == 1
    codes, distinct = coded(found["rows"], "t")
    assert distinct.to_pylist() == ["b", "a", "c"] and codes.tolist() == [0, 3, 1, 0, 2], "a null has the code 3"
    assert concat([]) == {}


def test_columns_are_numpy_with_integers_as_int64() -> None:
    assert column(TABLE, "n").dtype == np.int64
    assert column(pa.table({"b": [True, False], "f": np.float32([1, 2])}), "f").dtype == np.float32


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), st.integers(1, 7))
def test_hash_partitions_hold_each_row_once_in_order(keys: list[int], partitions: int) -> None:
    table = pa.table({"key": pa.array(keys, pa.int64()), "row": pa.array(range(len(keys)), pa.int64())})
    parts = [(place, from_bytes(piece)[1]) for place, piece in split("rows", table, np.array(keys, np.int64), partitions)]
    assert [place for place, _ in parts] == sorted({key % 2**64 % partitions for key in keys})
    for place, part in parts:
        assert part.to_pydict()["row"] == [row for row, key in enumerate(keys) if key % 2**64 % partitions == place]


def test_places_may_be_any_number() -> None:
    table, places = pa.table({"row": np.arange(3)}), np.arange(3)[::-1] * 2**40
    found = [(place, from_bytes(piece)[1].column("row").to_pylist()) for place, piece in split_at("rows", table, places)]
    assert found == [(0, [2]), (2**40, [1]), (2**41, [0])]
    assert list(split_at("rows", table.slice(0, 0), places[:0])) == []


def test_hashes_of_distinct_texts_end_with_that_of_a_null() -> None:
    texts = pa.array(["a", "", "b"], pa.large_string())
    expected = hash_strings(["a", "", "b"]).numpy().tolist()
    for null in (EMPTY, PAD):  # the second time they are remembered
        assert hash_distinct(texts, null).tolist() == [*expected, null]
    assert hash_distinct(pa.array([], pa.large_string())).tolist() == [EMPTY]
    assert hash_distinct(pa.array(["a", "", "c"], pa.large_string()))[2] != expected[2]


def test_mixed_hashes_are_positive_distinct_and_depend_on_the_order() -> None:
    first, second = np.meshgrid(np.arange(-100, 100), np.arange(-100, 100))
    found = mix(first.ravel().astype(np.int64), second.ravel().astype(np.int64))
    assert (found >= 0).all() and len(np.unique(found)) == 200**2
    assert mix(np.array([1]), np.array([2])) != mix(np.array([2]), np.array([1]))
