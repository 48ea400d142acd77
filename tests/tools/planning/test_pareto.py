"""The front against its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.planning.planted import rows_of
from tools.planning.pareto import front, points

POINT = st.tuples(st.integers(0, 6), st.integers(0, 6))


@settings(max_examples=200, deadline=None)
@given(st.lists(POINT, min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(found: list[tuple[int, int]]) -> None:
    costs, values = np.array(found, np.float64).T
    beaten = [
        any(c <= cost and v >= value and (c < cost or v > value) for c, v in zip(costs, values, strict=True))
        for cost, value in zip(costs, values, strict=True)
    ]
    assert front(costs, values).tolist() == [not one for one in beaten]


def test_a_configuration_of_two_axes_is_one_point() -> None:
    rows = rows_of("width", [1, 2], lambda x: 0.1 * x) + rows_of("depth", [1, 4], lambda x: 0.1 * x)
    found = points(rows)
    assert [point.arm for point in found] == ["base", "width=2", "depth=4"]
    assert np.isclose(found[0].value, 0.1) and found[2].flops_per_item == 4e6 and found[2].memory_bytes == 16_000
