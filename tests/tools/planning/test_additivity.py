"""Interactions of planted factorials, and of the paper's Table 5."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.tools.planning.planted import row
from tools.planning.additivity import Interaction, interactions
from tools.planning.cells import Draws
from tools.tracking.table import FACTORIAL, ResultRow

TABLE5 = {"": 0.0, "data": 0.47, "backbone": 0.10, "embedding": 0.13, "backbone+data+embedding": 0.74}


def _rows(values: dict[str, float], seeds: int = 1, noise: float = 0.0, source: int = 0) -> list[ResultRow]:
    drawn = np.random.default_rng(source)
    found = []
    for raised, value in values.items():
        level = 1 + (raised.count("+") + 1 if raised else 0)
        for seed in range(seeds):
            one = row(FACTORIAL, level, seed, 50 + value + noise * drawn.standard_normal())
            found.append(dataclasses.replace(one, raised=raised, arm=raised or "base"))
    return found


def test_table_5_is_more_than_additive_by_004() -> None:
    (found,) = interactions(_rows(TABLE5), Draws())
    assert found.factors == ("backbone", "data", "embedding")
    assert found.alone == pytest.approx((0.10, 0.47, 0.13)) and found.together == pytest.approx(0.74)
    assert found.interaction == pytest.approx(0.04) and found.interval is None and found.verdict.startswith("unknown")


@pytest.mark.parametrize(("together", "verdict"), [(0.9, "more than"), (0.3, "less than"), (0.57, "as far as the interval tells")])
def test_verdicts_of_planted_pairs(together: float, verdict: str) -> None:
    rows = _rows({"": 0.0, "data": 0.47, "backbone": 0.10, "backbone+data": together}, seeds=4, noise=0.02)
    (found,) = interactions(rows, Draws())
    assert verdict in found.verdict


def test_the_interval_of_an_interaction_is_that_of_a_t_test() -> None:
    rows = _rows({"": 0.0, "data": 0.47, "backbone": 0.10, "backbone+data": 0.57}, seeds=4, noise=0.02)
    (found,) = interactions(rows, Draws(replicates=200_000))
    groups = [[r.value for r in rows if r.raised == raised] for raised in ("", "data", "backbone", "backbone+data")]
    pooled = np.mean([np.var(group, ddof=1) for group in groups])
    assert found.interval is not None
    half = 2.178813 * np.sqrt(4 * pooled / 4)  # t(0.975) with 4 x 3 degrees of freedom
    assert found.interval == pytest.approx((found.interaction - half, found.interaction + half), abs=0.02 * half)


def test_sets_without_their_parts_are_left_out() -> None:
    without_data_alone = {"": 0.0, "backbone": 0.1, "embedding": 0.1, "backbone+data": 0.5, "backbone+embedding": 0.25}
    found: list[Interaction] = interactions(_rows(without_data_alone), Draws())
    assert [one.factors for one in found] == [("backbone", "embedding")]
