"""Columns for decision trees: the values that our models read, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from cvr import records, transforms
from cvr.data import Budget
from cvr.errors import CvrError
from cvr.schema import FeatureSpec, parse_spec
from tests.support import batch_of, random_columns, tiny_spec
from tools.gbdt.columns import Design, FeatureColumns


@pytest.fixture(scope="module")
def spec() -> FeatureSpec:
    return tiny_spec()


@pytest.fixture(scope="module")
def stored(spec: FeatureSpec) -> records.ListColumns:
    return random_columns(spec, 12, seed=5)


@pytest.fixture(scope="module")
def matrix(spec: FeatureSpec, stored: records.ListColumns) -> dict[str, np.ndarray]:
    """Columns of the matrix by name, of a batch with padding, which is cut off."""
    columns = FeatureColumns(spec, max_categories=20)
    found = columns.matrix(batch_of(spec, stored, Budget(items=80, lists=20))).numpy()
    assert found.shape == (80, len(columns.names)) and found.dtype == np.float32
    return {name: found[: len(stored.item), place] for place, name in enumerate(columns.names)}


def test_every_feature_is_a_column_or_left_out_with_a_reason(spec: FeatureSpec) -> None:
    columns = FeatureColumns(spec, max_categories=19)
    assert columns.names == ["hour", "visits", "price", "rate", "touched", "to_last", "price_rank", "device", "offset"]
    assert columns.categorical == ["device", "offset"]
    assert columns.left_out == {
        "query": "a bag of n-grams",
        "item": "20 buckets, more than --max_categories=19",
        "tags": "a bag of categories",
        "recent": "a sequence of events",
        "bought": "a sequence of events",
    }
    assert sorted([*columns.names, *columns.left_out]) == sorted(spec.features)


def test_numericals_are_those_of_the_records(
    spec: FeatureSpec, stored: records.ListColumns, matrix: dict[str, np.ndarray]
) -> None:
    layout = records.Layout.of(spec)
    for place, name in enumerate(layout.item_num):
        np.testing.assert_array_equal(matrix[name], stored.item_num[:, place])
    np.testing.assert_array_equal(matrix["hour"], np.repeat(stored.context_num[:, 0], stored.lengths))
    history = stored.sequences["recent"]
    starts = np.cumsum(history.lengths) - history.lengths
    events = [history.item[start : start + length] for start, length in zip(starts, history.lengths, strict=True)]
    counted = [np.sum(events[row] == item) for row, item in zip(np.repeat(np.arange(12), stored.lengths), stored.item, strict=True)]
    unseen = np.repeat([len(e) > 0 and e[0] == transforms.UNSEEN for e in events], stored.lengths)
    np.testing.assert_array_equal(matrix["touched"], np.where(unseen, np.nan, counted))


def test_categoricals_are_rows_of_their_tables(
    spec: FeatureSpec, stored: records.ListColumns, matrix: dict[str, np.ndarray]
) -> None:
    ids = stored.cat["item"]
    np.testing.assert_array_equal(matrix["item"], np.where(ids < 4, ids, 4 + (ids - 4) % 20))
    phone = int(transforms.hash_strings(["phone"])[0])
    device = stored.cat["device"].copy()
    device[:2] = phone, 3 + phone  # a listed value, and one that is not
    rows = np.repeat(np.where(device < 4, device, np.where(device == phone, 4, transforms.UNKNOWN)), stored.lengths)
    changed = records.ListColumns(**{**vars(stored), "cat": {**stored.cat, "device": device}})
    columns = FeatureColumns(spec, max_categories=20)
    found = columns.matrix(batch_of(spec, changed)).numpy()[:, columns.names.index("device")]
    np.testing.assert_array_equal(found, rows)
    offset = np.where(np.isnan(matrix["to_last"]), transforms.EMPTY, np.clip(matrix["to_last"], -4, 3) + 8)
    np.testing.assert_array_equal(matrix["offset"], offset)


def test_unseen_becomes_nan_and_an_indicator_where_it_was_seen_in_training() -> None:
    inf, nan = np.inf, np.nan
    train = np.array([[1, -inf, 3], [nan, 2, -inf], [4, 5, 6]], np.float32)
    design = Design.fit(["a", "b", "c"], train)
    assert design.names == ("a", "b", "c", "b.unseen", "c.unseen")
    np.testing.assert_array_equal(design.apply(train), [[1, nan, 3, 1, 0], [nan, 2, nan, 0, 1], [4, 5, 6, 0, 0]])
    np.testing.assert_array_equal(design.apply(np.float32([[-inf, inf, -inf]])), [[nan, nan, nan, 0, 1]])


def test_a_spec_without_columns_is_refused() -> None:
    text = """
dataset: text
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features: {title: {kind: text, level: item, from: item.title, embedding: {buckets: 9, dim: 2}}}
"""
    with pytest.raises(CvrError, match="no item feature that trees can read: {'title': 'a bag of n-grams'}"):
        FeatureColumns(parse_spec(text), 20)
