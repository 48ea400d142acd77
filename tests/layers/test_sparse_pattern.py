"""Sparse patterns: each pair that counts is in one part once, and cuts come back in order."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.sparse_pattern import sparse_pattern
from cvr.layers.unified_factors import UnifiedFactors
from tests.layers.unified import sees


@pytest.mark.parametrize(("window", "dilation"), [(0, 0), (1, 0), (3, 0), (3, 2), (2, 5), (4, 4), (1, 1), (7, 3), (50, 2)])
@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_every_pair_counts_once(length: int, window: int, dilation: int) -> None:
    seen = np.zeros((length, length), int)
    for part in sparse_pattern(length, window, dilation):
        places = tf.range(length)[None, None]
        query, key = (cut(places)[0, 0].numpy() for cut in (part.queries, part.keys))
        for group, i, j in np.argwhere(part.allowed):
            if part._query[group, i] < length:
                assert key[group, j] - query[group, i] == part.distance[group, i, j]
                seen[query[group, i], key[group, j]] += 1
        np.testing.assert_array_equal(part.back(part.queries(places)), places)
    factors = UnifiedFactors(window=window, dilation=dilation)
    expected = [[sees(factors, j - i) for j in range(length)] for i in range(length)]
    np.testing.assert_array_equal(seen, np.array(expected, int))


def test_pairs_that_are_computed() -> None:
    """Of 100 tokens: all, or 13 blocks of 8 with 15 keys each and 4 classes of 25."""
    assert [part.pairs for part in sparse_pattern(100)] == [100 * 100]
    assert [part.pairs for part in sparse_pattern(100, 8, 4)] == [13 * 8 * 15, 4 * 25 * 25]
