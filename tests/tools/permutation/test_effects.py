"""Intervals and shares of importances by hand, and how often they hold a simulated truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support import LEAN, tiny_spec
from tools.comparison.statistics import Resampling, holm
from tools.permutation.effects import corrected, estimate, shares
from tools.permutation.families import make_families
from tools.permutation.measure import Store
from tools.permutation.plan import make_plan
from tools.permutation.results import Results
from tools.permutation.table import markdown


def test_one_run_has_permutations_and_several_have_runs_as_repeats() -> None:
    source = np.random.default_rng(1)
    values = source.normal(0.1, 0.3, (4, 10, 50)) + 0.2 * source.normal(size=(4, 1, 1))
    one, four = estimate(values[:1], Resampling(100)), estimate(values, Resampling(100))
    assert one.value == pytest.approx(values[0].mean()) and one.se_runs is None
    assert one.se_permutations == pytest.approx(values[0].mean(axis=1).std(ddof=1) / np.sqrt(10))
    assert four.value == pytest.approx(values.mean())
    assert four.se_runs == pytest.approx(values.mean(axis=(1, 2)).std(ddof=1) / 2)
    within = np.mean([run.mean(axis=1).var(ddof=1) / 10 for run in values])
    assert four.se_permutations == pytest.approx(np.sqrt(within / 4)) and four.se_permutations < four.se_runs


def test_several_runs_are_averaged_in_what_is_reported(tmp_path: Path) -> None:
    """Two runs whose shuffles cost 0.1 and 0.3 of every list, whatever is shuffled: 0.2, and no interaction to tell from I(a) = 0.2."""
    spec = tiny_spec(LEAN)
    plan, store = make_plan(spec, make_families(spec), ()), Store(tmp_path, {})
    for run, cost in enumerate((0.1, 0.3)):
        store.write(run, None, np.linspace(0.4, 0.8, 30))
        for cell in plan.cells():
            store.write(run, cell, np.tile(np.linspace(0.4, 0.8, 30) - cost, (10, 1)))
    results = Results(plan, store, 2, Resampling(100))
    assert results.base.value == pytest.approx(0.6) and results.base.se_runs == 0
    for effect in [row.effects["across"] for row in results.features] + [pair.interaction for pair in results.pairs]:
        assert effect is not None and effect.value == pytest.approx(0.2)
        assert effect.se_runs == pytest.approx(0.1) and effect.se_lists == pytest.approx(0, abs=1e-9)
    text = markdown(results, "Title", 2, trained_on=False)
    assert "(+33.33)" in text and "0.00 / 0.00 / 16.67" in text and "trained on these" not in text


def test_p_values_of_a_table_are_corrected() -> None:
    source = np.random.default_rng(2)
    effects = [estimate(source.normal(mean, 1, (1, 10, 40)), Resampling(100)) for mean in (0.0, 0.2, 0.5)]
    np.testing.assert_allclose([effect.p for effect in corrected(effects)], holm(np.array([effect.p for effect in effects])))
    assert corrected([]) == []


def test_shares_by_hand() -> None:
    """Constant parts 3, 1 and -2: of 4 the shares are 3/4, 1/4 and, negative ones counting 0, none."""
    found = shares([np.full((1, 10, 5), value) for value in (3.0, 1.0, -2.0)], Resampling(100))
    assert [share.value for share in found] == [0.75, 0.25, 0.0]
    for share in found:
        assert share.interval == pytest.approx((share.value, share.value)) and share.mde == pytest.approx(0, abs=1e-9)
    assert np.isnan(shares([np.full((1, 10, 5), -1.0)] * 2, Resampling(100))[0].value)


@pytest.mark.parametrize("runs", [1, 5])
def test_intervals_of_shares_hold_the_truth(runs: int) -> None:
    """Truth 2/3: 95 % of 600, with a standard error of 0.9 %, and a little more, since what lists and repeats do together counts twice."""
    source, held = np.random.default_rng(3), 0
    for number in range(600):
        repeats = source.normal(0, 0.1, (2, runs, 10 if runs == 1 else 1, 1))
        parts = source.normal(0, 0.5, (2, 1, 1, 80)) + source.normal(0, 0.3, (2, runs, 10, 80)) + repeats
        found = shares([parts[0] + 2.0, parts[1] + 1.0], Resampling(200, number))[0]
        held += found.interval[0] <= 2 / 3 <= found.interval[1]
    assert 0.925 <= held / 600 <= 0.985
