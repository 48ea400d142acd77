"""Planted leaks are caught, strong honest features are not; rates of ids against a brute force."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from cvr.manifest import Manifest
from cvr.records import Histories, Layout, ListColumns
from cvr.schema import parse_spec
from cvr.transforms import FIRST_ID
from pipelines.validation import leaks
from pipelines.validation.facts import facts
from pipelines.validation.leak_checks import best_scores, leak_checks
from pipelines.validation.merging import Partial, merge
from pipelines.validation.profile import profile
from pipelines.validation.results import Figures, Thresholds
from tests.pipelines.validation.folders import ITEMS, SPEC, draw, replace_number

LAYOUT = Layout.of(parse_spec(SPEC))
CLICK, PURCHASE = 0, 1


def _figures(**splits: ListColumns) -> Figures:
    spec = parse_spec(SPEC)
    partials: dict[tuple[str, str, int], Partial] = {}
    for name, columns in splits.items():
        learnt = leaks.learn_rates(LAYOUT, columns)
        found = merge(leaks.measure_scores(LAYOUT, columns), leaks.measure_rates(LAYOUT, columns, learnt))
        partials[name, "2026-01-01", 0] = {**facts(LAYOUT, columns), **profile(spec, LAYOUT, columns), "leaks": found}
    manifest = Manifest(
        dataset="made",
        source="test",
        created="",
        spec_fingerprint="",
        spec_text=SPEC,
        splits={name: {} for name in splits},
    )  # type: ignore[arg-type]
    return Figures("lists", manifest, spec, partials)


def _statuses(**splits: ListColumns) -> tuple[list[str], str]:
    """(status of each check, the first example of the first one that did not pass)."""
    checks = leak_checks(_figures(**splits), Thresholds())
    return [check.status for check in checks], next((c.examples[0] for c in checks if c.status != "pass"), "")


def _owner(columns: ListColumns) -> np.ndarray:
    return np.repeat(np.arange(len(columns.lengths)), columns.lengths)


def _label(columns: ListColumns, rng: np.random.Generator) -> ListColumns:
    return replace_number(columns, "clicks", columns.labels[:, PURCHASE])


def _noisy_label(columns: ListColumns, rng: np.random.Generator) -> ListColumns:
    return replace_number(columns, "clicks", -columns.labels[:, CLICK] + rng.normal(0, 0.3, len(columns.item)))


def _clicks_of_the_next_day(columns: ListColumns, rng: np.random.Generator) -> ListColumns:
    """What a customer clicked until the day after the list, this list's clicks among it, counted by customer and item."""
    return replace_number(columns, "clicks", columns.labels[:, CLICK] + rng.poisson(0.03, len(columns.item)))


def _missing_without_label(columns: ListColumns, rng: np.random.Generator) -> ListColumns:
    """A price paid: there where the item was bought."""
    values = np.where(columns.labels[:, PURCHASE] > 0, rng.lognormal(3, 1, len(columns.item)), np.nan)
    return replace_number(columns, "price", values)


def _id_of_the_outcome(columns: ListColumns, rng: np.random.Generator) -> ListColumns:
    status = 100 * FIRST_ID + columns.labels[:, PURCHASE] * 3 + rng.integers(0, 3, len(columns.item))
    return dataclasses.replace(columns, cat={**columns.cat, "brand": status})


def _history_with_the_list_s_own_clicks(columns: ListColumns, rng: np.random.Generator) -> ListColumns:
    clicked = columns.labels[:, CLICK] > 0
    lengths = np.bincount(_owner(columns)[clicked], minlength=len(columns.lengths))
    zeros = np.zeros(int(clicked.sum()))
    history = Histories(columns.item[clicked], zeros.astype(np.int64) + FIRST_ID, zeros.astype(np.float32), lengths)
    return dataclasses.replace(columns, sequences={"recent": history})


LEAKS = {
    _label: "clicks (highest first): AUC 1.000",
    _noisy_label: "clicks (lowest first): AUC 0.9",
    _clicks_of_the_next_day: "clicks (highest first): AUC 0.9",
    _missing_without_label: "price (present, items with a value first)",
    _id_of_the_outcome: "brand (rate of its ids): AUC 1.000",
    _history_with_the_list_s_own_clicks: "recent (highest first): AUC 0.9",
}


@pytest.mark.parametrize("plant", LEAKS, ids=lambda plant: plant.__name__)
def test_a_planted_leak_fails(plant: Callable[[ListColumns, np.random.Generator], ListColumns]) -> None:
    statuses, example = _statuses(train=plant(draw(800, 11), np.random.default_rng(1)))
    assert statuses[0] == "fail"
    assert example.startswith(LEAKS[plant].replace("price (present, items with a value first)", "price (")), example


def test_honest_features_pass() -> None:
    assert _statuses(train=draw(800, 12), test=draw(400, 13)) == (["pass"] * 3, "")


def test_an_honest_strong_feature_passes() -> None:
    """The last touched item is bought in three of four lists: AUC 0.87, and the best feature by far, which is worth a question."""
    columns, rng = draw(1500, 14), np.random.default_rng(2)
    starts = np.cumsum(columns.lengths) - columns.lengths
    bought = starts + (rng.random(1500) * columns.lengths).astype(int)
    touched = np.where(rng.random(1500) < 0.75, bought, starts)
    labels, last = np.zeros_like(columns.labels), np.zeros(len(columns.item))
    labels[bought] = 1
    last[touched] = 1
    columns = dataclasses.replace(columns, labels=labels, delay=np.where(labels > 0, 60_000, -1))
    statuses, told = _statuses(train=replace_number(columns, "clicks", last))
    assert statuses == ["pass", "warn", "pass"] and told.startswith("clicks (highest first): AUC 0.8")


def test_two_leaks_do_not_hide_each_other() -> None:
    columns, rng = draw(2500, 20), np.random.default_rng(4)
    columns = replace_number(columns, "price", columns.labels[:, CLICK] + rng.normal(0, 0.55, len(columns.item)))
    checks = leak_checks(_figures(train=replace_number(columns, "clicks", columns.labels[:, CLICK])), Thresholds())
    assert [check.status for check in checks] == ["fail", "warn", "pass"]
    assert checks[0].examples[0].startswith("clicks (") and checks[1].examples[0].startswith(
        "price (highest first): AUC 0.9"
    )


def test_few_lists_prove_nothing() -> None:
    """Perfect order of 30 lists: Wilson's lower bound is 30 / (30 + 3.84) = 0.886."""
    columns = _label(draw(30, 15), np.random.default_rng(1))
    best = best_scores(_figures(train=columns).whole("train"), "purchase")[0]
    assert (best.feature, best.auc) == ("clicks", 1.0) and best.low == pytest.approx(
        best.lists / (best.lists + 3.8415), abs=1e-4
    )
    assert _statuses(train=columns)[0][0] == "pass"


def test_a_feature_that_is_far_ahead_and_falls_after_training_warns() -> None:
    columns, rng = draw(2500, 16), np.random.default_rng(3)
    hint = np.where(rng.random(len(columns.item)) < 0.87, columns.labels[:, CLICK], 1 - columns.labels[:, CLICK])
    statuses, _ = _statuses(train=replace_number(columns, "clicks", hint), test=draw(2500, 17))
    assert statuses == ["pass", "warn", "warn"]


def test_rates_of_ids_by_brute_force() -> None:
    columns = draw(60, 18)
    learnt = leaks.learn_rates(LAYOUT, columns)
    found = leaks.measure_rates(LAYOUT, columns, learnt)["brand"]["click"]["rate"]
    half = leaks._halves(columns)
    assert 10 < half.sum() < 50
    scores = []
    for row, owner in enumerate(_owner(columns)):
        other = half[_owner(columns)] == 1 - half[owner]
        same = other & (columns.cat["brand"] == columns.cat["brand"][row])
        base = columns.labels[other, CLICK].mean()
        scores.append((columns.labels[same, CLICK].sum() + 20 * base) / (same.sum() + 20))
    aucs = []
    for owner in range(60):
        rows = np.flatnonzero(_owner(columns) == owner)
        pairs = [
            (scores[a], scores[b]) for a in rows for b in rows if columns.labels[a, CLICK] > columns.labels[b, CLICK]
        ]
        if pairs:
            aucs.append(np.mean([1.0 if a > b + 1e-7 else 0.5 if abs(a - b) <= 1e-7 else 0.0 for a, b in pairs]))
    assert found[0] == len(aucs) and found[1] == pytest.approx(sum(aucs))


def test_occurrences_in_a_history_by_brute_force() -> None:
    columns = draw(200, 19)
    held = columns.sequences["recent"]
    columns = dataclasses.replace(columns, item=FIRST_ID + columns.item % (ITEMS // 20), sequences={
        "recent": dataclasses.replace(held, item=FIRST_ID + held.item % (ITEMS // 20))})  # fmt: skip
    scores = dict(leaks._scores(LAYOUT, columns))["recent"]
    held = columns.sequences["recent"]
    owner = np.repeat(np.arange(200), held.lengths)
    expected = [
        int(((owner == row) & (held.item == item)).sum())
        for row, item in zip(_owner(columns), columns.item, strict=True)
    ]
    assert scores.tolist() == expected and max(expected) > 1
