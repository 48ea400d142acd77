"""Importances of a ranker with known weights: against plain NumPy in float64, and the values that must be exact."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from cvr import records
from cvr.progress import Progress
from tests.support import tiny_spec
from tests.tools.permutation import planted
from tools.comparison.statistics import Resampling
from tools.permutation.columns import Columns
from tools.permutation.families import make_families
from tools.permutation.measure import Store, score_cells
from tools.permutation.plan import Plan, make_plan
from tools.permutation.results import Results
from tools.permutation.sample import Draw, Sample, draw_sample
from tools.permutation.scorer import Scorer
from tools.permutation.shuffles import KINDS, Shuffle, make_shuffle

PAIRS = ("season:crossed", "main:minor", "minor:main_rank")


class Measured(NamedTuple):
    """Lists with a planted truth, their sample, and what was measured on it."""

    columns: records.ListColumns
    sample: Sample
    scorer: Scorer
    plan: Plan
    store: Store
    results: Results


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder, spec = tmp_path_factory.mktemp("planted"), tiny_spec(planted.SPEC)
    columns = planted.planted_lists(folder / "lists")
    sample = draw_sample(spec, Draw(str(folder / "lists"), "validation", "purchase", 10_000, batch_items=64))
    assert len(sample.batches) > 3
    scorer = Scorer(planted.Planted(spec, planted.WEIGHTS, 1.0), sample)  # type: ignore[arg-type]
    plan, store = make_plan(spec, make_families(spec), PAIRS), Store(folder / "cells", {})
    score_cells(scorer, sample, store, plan.cells(), (0, 10, 3), Progress(1000))
    return Measured(columns, sample, scorer, plan, store, Results(plan, store, 1, Resampling(500)))


def _reference(columns: records.ListColumns, names: set[str], kind: str) -> np.ndarray:
    """Drops of average precision `[R, Q]`, by permuting plain columns; main_rank follows main, unless it is shuffled itself."""
    lengths, labels = columns.lengths, columns.labels[:, 0]
    base = planted.values(columns)
    before = planted.average_precision(planted.utility(base, lengths), labels, lengths)
    drops = []
    for number in range(10):
        shuffle = make_shuffle(kind, np.repeat(np.arange(len(lengths)), lengths), (3, 0, number))
        found = {name: x[shuffle.lists if name == "season" else shuffle.items] if name in names else x for name, x in base.items()}
        if "main_rank" not in names:
            found["main_rank"] = planted.ranks(found["main"], lengths)
        drops.append(before - planted.average_precision(planted.utility(found, lengths), labels, lengths))
    return np.stack(drops)


@pytest.mark.parametrize("kind", KINDS)
def test_importances_are_those_of_plain_numpy(measured: Measured, kind: str) -> None:
    for row in (*measured.results.features, *measured.results.families):
        effect = row.effects[kind]
        if effect is not None:
            assert effect.value == pytest.approx(_reference(measured.columns, set(row.members), kind).mean(), abs=1e-6), row.name
    for double in measured.results.pairs:
        if double.kind == kind and ":".join(double.names) in PAIRS:
            left, right, joint = (_reference(measured.columns, set(n), kind) for n in (double.names[:1], double.names[1:], double.names))
            assert double.joint.value == pytest.approx(joint.mean(), abs=1e-6)
            assert double.interaction.value == pytest.approx((left + right - joint).mean(), abs=1e-6)


def test_the_planted_order_and_the_planted_product_come_out(measured: Measured) -> None:
    """main (with its rank) > crossed > minor > dead; season matters by its product alone, which is the clear interaction."""
    names = [row.name for row in measured.results.features]
    assert [name for name in names if name in ("main", "crossed", "minor", "dead")] == ["main", "crossed", "minor", "dead"]
    features = {row.name: row.effects for row in measured.results.features}
    assert features["season"]["within"] is None and features["season"]["across"].clear
    pairs = {(double.names, double.kind): double for double in measured.results.pairs}
    product = pairs[("season", "crossed"), "across"]
    assert product.interaction.clear and product.interaction.value > 0.5 * features["season"]["across"].value
    assert (("season", "crossed"), "within") not in pairs


def test_a_feature_that_does_nothing_has_importance_zero(measured: Measured) -> None:
    for effect in next(row for row in measured.results.features if row.name == "dead").effects.values():
        assert (effect.value, effect.interval, effect.mde, effect.p) == (0, (0, 0), 0, 1)


def test_the_identity_and_a_context_feature_within_lists_change_nothing(measured: Measured) -> None:
    sample, scorer = measured.sample, measured.scorer
    same = Shuffle(np.arange(len(sample.lengths)), np.arange(len(sample.item)))
    base = scorer.precision()
    np.testing.assert_array_equal(scorer.precision(sample.spec.features, same), base)
    np.testing.assert_array_equal(scorer.precision(["season"], make_shuffle("within", sample.list_of_item, (1,))), base)
    assert np.any(scorer.precision(["season"], make_shuffle("across", sample.list_of_item, (1,))) != base)


def test_features_that_act_in_different_lists_do_not_interact(measured: Measured) -> None:
    """Within lists, a score main + minor of which one varies per list: I(a) + I(b) - I2(a, b) is 0 list by list, whatever the labels."""
    spec, odd = measured.sample.spec, measured.sample.list_of_item % 2 == 1
    tensors = []
    for batch, extent in zip(measured.sample.batches, measured.sample.extents, strict=True):
        numbers, own = batch["item_num"].numpy(), odd[extent.items]
        numbers[: len(own), 0] *= own
        numbers[: len(own), 1] *= ~own
        tensors.append({**batch, "item_num": tf.constant(numbers)})
    sample = dataclasses.replace(measured.sample, batches=tensors, columns=Columns(spec, tensors, measured.sample.extents))
    scorer = Scorer(planted.Planted(spec, {"main": 1.0, "minor": 1.0}, 0.0), sample)  # type: ignore[arg-type]
    base = scorer.precision()
    for number in range(3):
        shuffle = make_shuffle("within", sample.list_of_item, (number,))
        left, right, joint = (base - scorer.precision(names, shuffle) for names in (["main"], ["minor"], ["main", "minor"]))
        np.testing.assert_allclose(left + right - joint, 0, atol=1e-12)
        assert np.any(left != 0) and np.any(right != 0)


def test_a_sample_is_the_lists_with_the_smallest_random_numbers(measured: Measured, tmp_path: Path) -> None:
    """Of 60 lists with a positive 20 are kept, in file order, whoever else is drawn."""
    lists = tmp_path / "lists"
    columns = planted.planted_lists(lists)
    sample = draw_sample(tiny_spec(planted.SPEC), Draw(str(lists), "validation", "purchase", 20, seed=7))
    kept = np.sort(np.argsort(np.random.default_rng(7).random(60))[:20])
    np.testing.assert_array_equal(sample.lengths, columns.lengths[kept])
    np.testing.assert_array_equal(sample.item, columns.item[np.isin(np.repeat(np.arange(60), columns.lengths), kept)])
