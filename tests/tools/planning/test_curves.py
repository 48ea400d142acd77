"""Planted curves are found exactly, the better form is chosen by its error at the level that was left out, intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from tools.planning.cells import Draws, replicates_of
from tools.planning.curves import FORMS, fit, fit_log_linear, fit_power_law, fits, predict_log_linear, predict_power_law

LEVELS = np.array([1024.0, 2048.0, 4096.0, 8192.0])
EQUAL = np.ones(4)


def test_a_planted_line_is_found() -> None:
    y = np.stack([0.5 + 0.012 * np.log2(LEVELS), 0.7 - 0.003 * np.log2(LEVELS)])
    assert np.allclose(fit_log_linear(LEVELS, y, EQUAL), [[0.5, 0.012], [0.7, -0.003]], atol=1e-9)


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_planted_power_laws_are_found_all_at_once(unit: float) -> None:
    planted = np.array([[0.6, 0.2, 0.3], [0.7, 0.5, 1.2], [0.65, 0.3, 0.07], [0.4, -0.1, 0.5]])
    x = unit * np.array([1.0, 2, 4, 8, 16])
    scaled = planted * [1, 1, 1]
    scaled[:, 1] *= unit ** planted[:, 2]
    y = predict_power_law(scaled, x)
    found = fit_power_law(x, y, np.ones(5))
    assert np.allclose(found[:, [0, 2]], scaled[:, [0, 2]], atol=1e-6)
    assert np.allclose(found[:, 1] / scaled[:, 1], 1, atol=1e-5)
    assert np.allclose(predict_power_law(found, x), y, atol=1e-9)


def test_weights_count_a_level_as_often_as_it_was_measured() -> None:
    y = np.array([[0.0, 1.0, 0.0]])
    repeated = np.array([1.0, 2.0, 2.0, 4.0])
    twice = fit_log_linear(repeated, np.array([[0.0, 1.0, 1.0, 0.0]]), EQUAL)
    assert np.allclose(fit_log_linear(np.array([1.0, 2.0, 4.0]), y, np.array([1.0, 2.0, 1.0])), twice)


def test_the_form_that_errs_least_at_the_last_level_is_chosen() -> None:
    line, bend = 0.5 + 0.01 * np.log2(LEVELS), 0.6 - 3 * LEVELS**-0.6
    assert [one.form.name for one in fits(LEVELS, line, None, EQUAL)][0] == "log-linear"
    first, second = fits(LEVELS, bend, None, EQUAL)
    assert (first.form.name, second.form.name) == ("power law", "log-linear")
    assert first.last_out is not None and abs(first.last_out.error) < 1e-9
    assert second.last_out is not None and second.last_out.error == pytest.approx(
        float(predict_log_linear(fit_log_linear(LEVELS[:3], bend[None, :3], EQUAL[:3]), LEVELS[3:])[0, 0] - bend[3])
    )


def test_few_levels_allow_few_checks() -> None:
    (two,) = fits(LEVELS[:2], np.array([0.5, 0.6]), None, EQUAL[:2])
    assert two.form.name == "log-linear" and two.last_out is None
    (three,) = fits(LEVELS[:3], np.array([0.5, 0.6, 0.65]), None, EQUAL[:3])
    assert three.form.name == "log-linear" and three.last_out is not None and three.last_out.error == pytest.approx(0.05)


def _covered(levels: np.ndarray, seeds: int, lists: int, studies: int) -> tuple[float, float]:
    """Shares of simulated studies whose intervals hold the planted gain of one doubling, and no error at the last level."""
    source = np.random.default_rng(5)
    truth, hits, held = 0.5 + 0.01 * np.log2(levels), 0, 0
    for study in range(studies):
        values = truth[:, None] + 0.004 * source.standard_normal((len(levels), seeds))
        per_list = None
        if lists:
            common, own = source.standard_normal(lists), source.standard_normal((len(levels), 1, lists))
            each = source.standard_normal((len(levels), seeds, lists))
            per_list = list(values[..., None] + 0.2 * common + 0.06 * own + 0.05 * each)
            values = np.stack([cell.mean(axis=1) for cell in per_list])
        drawn = replicates_of(list(values), per_list, Draws(500, study))
        assert drawn is not None
        found = fit(FORMS[0], levels, values.mean(axis=1), drawn, np.full(len(levels), float(seeds)))
        assert found.replicates is not None and found.last_out is not None
        low, high = np.quantile(found.replicates[:, 1], [0.025, 0.975])
        hits += low <= 0.01 <= high
        held += bool(found.last_out.held)
    return hits / studies, held / studies


@pytest.mark.parametrize(("seeds", "lists"), [(3, 0), (2, 0), (3, 150)])
def test_intervals_cover_the_planted_slope(seeds: int, lists: int) -> None:
    covered, held = _covered(LEVELS, seeds, lists, 600)
    assert 0.92 <= covered <= 0.98 and 0.92 <= held <= 0.98


def test_one_seed_without_lists_has_no_interval() -> None:
    assert replicates_of([np.array([0.5]), np.array([0.6])], None, Draws()) is None


TABLE1 = {
    "DCNv2 cross": ([0.00, 0.12, 0.18, 0.18], [4.17, 6.37, 12.03, 28.37], 0.059),
    "DCNv2 deep": ([0.00, -0.01, 0.10, 0.15], [4.17, 7.63, 18.32, 34.04], 0.055),
    "MaskNet cross": ([0.23, 0.40, 0.52, 0.64], [2.87, 4.70, 10.89, 33.31], 0.109),
    "MaskNet parallel": ([0.50, 0.52, 0.56, 0.60], [6.27, 10.89, 20.12, 38.59], 0.039),
    "Transformer d": ([-0.01, 0.21, 0.25, 0.26], [0.87, 1.85, 5.18, 10.19], 0.070),
    "Transformer L": ([-0.01, 0.18, 0.33, 0.46], [0.87, 1.75, 4.22, 12.01], 0.122),
    "RankMixer d": ([0.17, 0.37, 0.50, 0.53], [1.78, 4.40, 13.43, 27.49], 0.091),
    "RankMixer L": ([-0.02, 0.17, 0.34, 0.32], [0.99, 1.78, 3.98, 10.91], 0.097),
}
"""Published gains of mAP in % and FLOPs per item in 1e7, and their least-squares slope per doubling of FLOPs, by polyfit."""


@pytest.mark.parametrize("name", TABLE1)
def test_slopes_of_the_papers_table_1(name: str) -> None:
    gains, flops, slope = TABLE1[name]
    found = fit_log_linear(np.array(flops), np.array([gains]), EQUAL)
    assert found[0, 1] == pytest.approx(slope, abs=0.0015)
    assert found[0, ::-1] == pytest.approx(np.polyfit(np.log2(flops), gains, 1))
