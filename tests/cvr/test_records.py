"""The list record: encoding and decoding agree, protobuf agrees, and a record of another spec is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cvr import records, wire
from cvr.records import Layout
from cvr.schema import parse_spec
from tests.support import SPEC, random_columns, tiny_spec


@pytest.mark.parametrize(("lists", "seed"), [(1, 0), (7, 1), (60, 2)])
def test_decoding_gives_back_what_was_encoded(lists: int, seed: int) -> None:
    spec = tiny_spec()
    columns = random_columns(spec, lists, seed)
    found = {k: v.numpy() for k, v in records.parse(spec, tf.constant(records.encode(spec, columns))).items()}
    assert found["search_id"].tolist() == [s.encode() for s in columns.search_id]
    assert found["list_size"].tolist() == columns.lengths.tolist()
    for name in ("time", "item", "position", "labels", "delay", "popularity", "context_num", "item_num"):
        np.testing.assert_array_equal(found[name], getattr(columns, name), err_msg=name)
    for name, values in columns.cat.items():
        np.testing.assert_array_equal(found[f"cat/{name}"], values, err_msg=name)
    for name, bag in columns.bags.items():
        np.testing.assert_array_equal(found[f"ragged/{name}/values"], bag.values, err_msg=name)
        np.testing.assert_array_equal(found[f"ragged/{name}/lengths"], bag.lengths, err_msg=name)
    for name, sequence in columns.sequences.items():
        np.testing.assert_array_equal(found[f"seq/{name}/lengths"], sequence.lengths, err_msg=name)
        for part in ("item", "action", "age"):
            np.testing.assert_array_equal(found[f"seq/{name}/{part}"], getattr(sequence, part), err_msg=name)


@pytest.mark.parametrize("lists", [1, 40])
def test_decode_is_the_inverse_of_encode(lists: int) -> None:
    spec = tiny_spec()
    encoded = records.encode(spec, random_columns(spec, lists, 3))
    assert records.encode(spec, records.decode(spec, encoded)) == encoded


def test_protobuf_reads_the_same_as_it_would_write() -> None:
    spec = tiny_spec()
    columns = random_columns(spec, 12, 5)
    rows = np.cumsum(columns.lengths) - columns.lengths
    for index, record in enumerate(records.encode(spec, columns)):
        example = tf.train.Example.FromString(record)
        feature = example.features.feature
        part = slice(rows[index], rows[index] + columns.lengths[index])
        assert np.frombuffer(feature["item"].bytes_list.value[0], "<i8").tolist() == columns.item[part].tolist()
        assert np.frombuffer(feature["item_cat"].bytes_list.value[0], "<i8").tolist() == columns.cat["item"][part].tolist()
        assert np.frombuffer(feature["context_cat"].bytes_list.value[0], "<i8").tolist() == [columns.cat["device"][index]]
        assert list(feature["labels"].int64_list.value) == columns.labels[part].ravel().tolist()
        assert list(feature["delay"].int64_list.value) == (columns.delay[part].ravel() + 1).tolist()
        np.testing.assert_array_equal(
            np.array(feature["item_num"].float_list.value, np.float32), columns.item_num[part].ravel()
        )
        # Tags and lengths are minimal; only an empty list takes two bytes that protobuf would leave out.
        empty = sum(not f.int64_list.value and not f.float_list.value and not f.bytes_list.value for f in feature.values())
        assert len(record) - len(example.SerializeToString()) <= 2 * empty


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**14 - 1, 2**14, 2**35, 2**62, 2**63 - 1, -1, -(2**63)])
def test_varints_of_every_length(value: int) -> None:
    payload, counts = wire.varints(np.array([value], np.int64))
    example = tf.train.Int64List(value=[value]).SerializeToString()
    assert example[-len(payload) :] == payload.tobytes() and counts.tolist() == [len(payload)]


def test_no_lists_and_empty_values() -> None:
    spec = tiny_spec()
    assert records.encode(spec, random_columns(spec, 1, 0)) != []
    nothing = _first(random_columns(spec, 3, 0), 0)
    assert records.encode(spec, nothing) == []


def _first(columns: records.ListColumns, lists: int) -> records.ListColumns:
    """The first lists of columns; only 0 is supported."""
    assert lists == 0
    flat = {
        f.name: getattr(columns, f.name)[:0]
        for f in dataclasses.fields(columns)
        if isinstance(getattr(columns, f.name), np.ndarray)
    }
    empty = np.zeros(0, np.int64)
    return records.ListColumns(
        **flat,
        cat={name: empty for name in columns.cat},
        bags={name: records.Bag(empty, empty) for name in columns.bags},
        sequences={
            name: records.Histories(empty, empty, empty.astype(np.float32), empty) for name in columns.sequences
        },
    )


def test_a_record_of_another_spec_is_refused() -> None:
    spec, other = tiny_spec(), parse_spec(SPEC.replace("window: 1h", "window: 2h"))
    encoded = tf.constant(records.encode(spec, random_columns(spec, 2)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="built with another feature spec"):
        records.parse(other, encoded)


def test_something_that_is_no_record_is_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="another feature spec"):
        records.parse(tiny_spec(), tf.constant([tf.train.Example().SerializeToString()]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Could not parse example"):
        records.parse(tiny_spec(), tf.constant([b"not a record"]))


@pytest.mark.parametrize("name", ["time", "item", "labels", "item_num"])
def test_columns_that_do_not_fit_are_refused(name: str) -> None:
    spec = tiny_spec()
    columns = random_columns(spec, 4)
    with pytest.raises(ValueError, match=f"column '{name}' has shape"):
        records.encode(spec, dataclasses.replace(columns, **{name: getattr(columns, name)[:-1]}))


def test_the_layout_is_in_spec_order() -> None:
    layout = Layout.of(tiny_spec())
    assert layout.tasks == ("purchase", "click")
    assert layout.context_num == ("hour",) and layout.item_num == ("price", "rate")
    assert layout.context_cat == ("device",) and layout.item_cat == ("item",)
    assert layout.context_ragged == ("query",) and layout.item_ragged == ("tags",)
    assert layout.sequences == ("recent", "bought")
    assert 0 <= layout.fingerprint < 2**63


def test_list_sizes() -> None:
    spec = tiny_spec()
    columns = random_columns(spec, 9, 4)
    assert records.list_sizes(tf.constant(records.encode(spec, columns))).numpy().tolist() == columns.lengths.tolist()
