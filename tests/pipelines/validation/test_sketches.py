"""Sketches merge to what they are of everything at once, and their answers lie within the stated errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.transforms import EMPTY, UNKNOWN, UNSEEN
from pipelines.validation.sketches import HEAVY_KEPT, IdSketch, NumberSketch, bin_keys, bin_values

FLOATS = st.lists(st.floats(width=32), max_size=60)
IDS = st.lists(st.integers(1, 40), max_size=80)


def _same(one: NumberSketch, other: NumberSketch) -> None:
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.counts, other.counts)
    counts = ("count", "missing", "unseen", "minimum", "maximum")
    assert [getattr(one.moments, name) for name in counts] == [getattr(other.moments, name) for name in counts]


@settings(max_examples=60, deadline=None)
@given(FLOATS, FLOATS, FLOATS)
def test_numbers_merge_in_any_order(a: list[float], b: list[float], c: list[float]) -> None:
    first, second, third = (NumberSketch.of(np.array(values, np.float32)) for values in (a, b, c))
    whole = NumberSketch.of(np.array(a + b + c, np.float32))
    _same(first.merge(second).merge(third), whole)
    _same(third.merge(first.merge(second)), whole)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=80), st.floats(0, 1))
def test_quantiles_are_within_one_per_cent(values: list[float], share: float) -> None:
    array = np.array(values, np.float32)
    exact = float(np.quantile(array.astype(np.float64), share, method="lower"))
    found = NumberSketch.of(array).quantile(share)
    assert found is not None and abs(found - exact) <= 0.01 * abs(exact) * (1 + 1e-6)


def test_quantiles_of_whole_numbers_are_whole() -> None:
    sketch = NumberSketch.of(np.array([1, 1, 7, 40, 40, 40], np.float32))
    assert [sketch.quantile(share) for share in (0, 0.5, 1)] == [1.0, 7.0, 40.0]
    assert NumberSketch.of(np.array([np.nan])).quantile(0.5) is None


@pytest.mark.parametrize("value", [1e-45, 1e-20, 0.5, 1.0, 3.4e38])
def test_bins_hold_their_value_and_keep_its_sign(value: float) -> None:
    both = np.array([value, -value], np.float32)
    keys = bin_keys(both)
    assert keys[0] == -keys[1] > 0
    np.testing.assert_allclose(bin_values(keys), both.astype(np.float64), rtol=0.0101)


@settings(max_examples=60, deadline=None)
@given(IDS, IDS)
def test_ids_merge_to_the_whole_and_are_exact_while_they_are_few(a: list[int], b: list[int]) -> None:
    merged = IdSketch.of(np.array(a, np.int64)).merge(IdSketch.of(np.array(b, np.int64)))
    both = a + b
    real = [value for value in both if value > 3]
    assert (merged.total, merged.real, merged.distinct()) == (len(both), len(real), len(set(real)))
    assert (merged.empty, merged.unseen, merged.unknown) == (both.count(EMPTY), both.count(UNSEEN), both.count(UNKNOWN))
    top = max((real.count(value) for value in set(real)), default=0)
    assert merged.top_share() == (top / len(real) if real else 0) and merged.heavy_error == 0


def test_distinct_and_top_ids_of_many() -> None:
    rng = np.random.default_rng(1)
    ids = 4 + rng.integers(0, 2**60, 60_000)
    parts = [IdSketch.of(np.concatenate([part, np.full(1_000, 77)])) for part in np.split(ids, 6)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert abs(merged.distinct() / 60_001 - 1) < 0.1  # three standard errors
    found = dict(zip(merged.heavy_ids.tolist(), merged.heavy_counts.tolist(), strict=True))
    assert 6_000 - merged.heavy_error <= found[77] <= 6_000 and len(found) <= HEAVY_KEPT
    assert merged.heavy_error <= 66_000 / HEAVY_KEPT


def test_top_ids_err_by_no_more_than_they_say() -> None:
    rng = np.random.default_rng(2)
    ids = 4 + rng.zipf(1.3, 20_000) % 3_000
    merged = IdSketch.of(ids[:7_000]).merge(IdSketch.of(ids[7_000:]))
    for value, count in zip(merged.heavy_ids.tolist(), merged.heavy_counts.tolist(), strict=True):
        true = int((ids == value).sum())
        assert true - merged.heavy_error <= count <= true
