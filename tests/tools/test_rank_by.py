"""Ranking by one feature."""

from __future__ import annotations

import numpy as np
import pytest

from cvr.errors import CvrError
from cvr.schema import parse_spec
from tools.rank_by import column_of, order

SPEC = parse_spec(
    """
dataset: ranked
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  price: {kind: numerical, level: item, from: item.price}
  above: {kind: numerical, level: item, derive: {op: diff_above, feature: price}}
  size: {kind: numerical, level: context, derive: {op: list_size}}
"""
)


def test_greatest_first_then_display_order_then_what_is_no_number() -> None:
    values = np.array([1.0, np.nan, 3.0, 3.0, -np.inf, -2.0])
    scores = order(values, np.array([0, 1, 5, 2, 3, 4]))
    assert np.argsort(-scores).tolist() == [3, 2, 0, 5, 1, 4]


def test_stored_columns_come_before_derived_ones() -> None:
    assert (column_of(SPEC, "price"), column_of(SPEC, "above")) == (0, 1)
    with pytest.raises(CvrError, match="--feature=size: no numerical item feature of the spec; there are price, above"):
        column_of(SPEC, "size")
