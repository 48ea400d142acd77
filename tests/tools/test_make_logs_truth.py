"""The planted truth: choices follow their probabilities, delays their law, and the utility is the best ranking."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from tools.synthetic import behaviour
from tools.synthetic.customers import draw_in_category, pair_normal
from tools.synthetic.events import STEP_DELAYS, DelayLaw
from tools.synthetic.generate import generate
from tools.synthetic.queries import match
from tools.synthetic.searches import Lists
from tools.synthetic.settings import DAY, WEIGHTS, Settings
from tools.synthetic.world import build_world

SETTINGS = Settings(days=5, searches_per_day=500, customers=120, items=400, queries=60, seed=5)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    generate(SETTINGS, folder, "parquet")
    return folder


@pytest.fixture(scope="module")
def truth(logs: Path) -> pd.DataFrame:
    return read(logs / "truth" / "impressions")


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)


def mean_average_precision(rows: pd.DataFrame, score: pd.Series) -> float:
    """Independent of cvr.metrics: mean over lists with a purchase of the mean precision at its purchases."""
    ordered = rows.assign(score=score).sort_values(["search_id", "score"], ascending=[True, False], kind="stable")
    lists = ordered.groupby("search_id")
    precision = lists["purchased"].cumsum() / (lists.cumcount() + 1)
    average = (precision * ordered["purchased"]).groupby(ordered["search_id"]).sum() / lists["purchased"].sum()
    return float(average.dropna().mean())


def flat_lists(sizes: list[int]) -> Lists:
    """Lists whose only meaningful parts are sizes and indices."""
    size = np.array(sizes)
    index = np.repeat(np.arange(len(size)), size)
    per_list, per_item = np.zeros(len(size), int), np.zeros(len(index))
    return Lists(
        per_list, per_list, per_list, size, index, per_item.astype(int), per_item, per_item, per_item, per_item
    )


def test_probabilities_by_hand() -> None:
    """Weights 1, 2, 1 beside an outside option of weight 4: 1/8, 1/4, 1/8, and second purchases by what is left of the list."""
    _, got = behaviour._choose(np.log([1.0, 2.0, 1.0]), np.log([4.0]), flat_lists([3]), np.random.default_rng(0))
    share = behaviour.SECOND_PURCHASE_SHARE
    first = 1 / 8 + share * (1 / 4 * 1 / 2 + 1 / 8 * 1 / 3)
    second = 1 / 4 + share * (1 / 8 * 2 / 3 + 1 / 8 * 2 / 3)
    np.testing.assert_allclose(got, [first, second, first], rtol=1e-12)


def test_single_item_lists_have_no_second_purchase() -> None:
    bought, got = behaviour._choose(np.zeros(4), np.zeros(4), flat_lists([1, 1, 1, 1]), np.random.default_rng(0))
    np.testing.assert_allclose(got, 0.5)
    assert bought.shape == (4,)


def test_choices_follow_their_probabilities() -> None:
    rng, lists = np.random.default_rng(1), flat_lists([3] * 40_000)
    bought, probability = behaviour._choose(np.tile([0.3, -0.5, 1.1], 40_000), np.full(40_000, 0.8), lists, rng)
    frequency, expected = bought.reshape(-1, 3).mean(axis=0), probability[:3]
    assert (np.abs(frequency - expected) < 5 * np.sqrt(expected / 40_000)).all()


def test_purchases_are_calibrated(truth: pd.DataFrame) -> None:
    expected = truth["purchase_probability"].sum()
    assert abs(truth["purchased"].sum() - expected) < 5 * np.sqrt(expected)
    strong = truth["purchase_probability"] > truth["purchase_probability"].quantile(0.9)
    expected = truth["purchase_probability"][strong].sum()
    assert abs(truth["purchased"][strong].sum() - expected) < 5 * np.sqrt(expected)


def test_utility_is_the_sum_of_its_terms(truth: pd.DataFrame) -> None:
    terms = truth.filter(like="term_")
    assert list(terms) == [f"term_{field.name}" for field in dataclasses.fields(WEIGHTS)]
    np.testing.assert_allclose(terms.sum(axis=1), truth["bayes_score"], atol=1e-4)


def test_the_utility_ranks_far_better_than_the_log_did(truth: pd.DataFrame) -> None:
    searches = truth[truth["search_id"].str.startswith("s")]
    display, bayes = (
        mean_average_precision(searches, searches[c] * s) for c, s in (("position", -1), ("bayes_score", 1))
    )
    assert 0.25 < display < 0.42 and 0.58 < bayes < 0.75
    for term in searches.filter(like="term_"):
        weaker = mean_average_precision(searches, searches["bayes_score"] - 3.0 * searches[term])
        assert weaker < bayes, term
    bought = searches.groupby("search_id")["purchased"].sum()
    assert 0.5 < (bought > 0).mean() < 0.7 and (bought > 1).sum() < 0.07 * (bought > 0).sum()


def test_purchase_implies_cart_implies_click(truth: pd.DataFrame) -> None:
    assert (truth["carted"] | ~truth["purchased"]).all() and (truth["clicked"] | ~truth["carted"]).all()
    assert truth["clicked"].sum() > 1.5 * truth["carted"].sum() > 1.5 * truth["purchased"].sum()


def test_events_tell_the_outcome_in_order(logs: Path, truth: pd.DataFrame) -> None:
    events = read(logs / "truth" / "events")
    assert events["event_id"].is_unique
    steps = events.pivot(index=["true_search_id", "item_id"], columns="event", values="delay")
    assert (steps["cart"].dropna() > steps["click"][steps["cart"].notna()]).all()
    assert (steps["purchase"].dropna() > steps["cart"][steps["purchase"].notna()]).all()
    for event, outcome in (("click", "clicked"), ("cart", "carted"), ("purchase", "purchased")):
        assert steps[event].notna().sum() == truth[outcome].sum()


def test_logged_events_are_the_true_ones_of_the_days_before_the_end(logs: Path) -> None:
    logged, true = read(logs / "engagements"), read(logs / "truth" / "events").set_index("event_id")
    copies = logged["event_id"].duplicated()
    assert 0.002 < copies.mean() < 0.03
    once = logged[~copies].set_index("event_id")
    shown = read(logs / "impressions").groupby("search_id")["time"].first()
    joined = once.join(true[["true_search_id", "delay"]], how="left")
    assert (joined["time"] - joined["true_search_id"].map(shown) == joined["delay"]).all()
    known = joined["search_id"].notna()
    assert (joined["search_id"] == joined["true_search_id"])[known].all()
    assert (joined["customer_id"].notna() | known).all(), "an anonymous event without a search could not be credited"
    end = SETTINGS.day_start(SETTINGS.days)
    ended = true["true_search_id"].map(shown) + true["delay"] < end
    assert 0.97 < len(once) / ended.sum() <= 1.0, "only events that arrive late on the last day are missing"


def test_delays_follow_their_law() -> None:
    law = DelayLaw((0.7, 0.3), (1_000, 1_000_000), (0.5, 0.8))
    delays = law.draw(50_000, np.random.default_rng(2))
    for point in (500, 1_000, 30_000, 1_000_000, 3_000_000):
        parts = [scipy.stats.norm.cdf(np.log(point / m) / s) for m, s in zip(law.median, law.sigma, strict=True)]
        assert abs((delays <= point).mean() - np.dot(law.share, parts)) < 0.01
    assert delays.min() >= 1 and delays.dtype == np.int64


def test_the_attribution_window_cuts_little() -> None:
    rng = np.random.default_rng(3)
    delays = np.sum([law.draw(50_000, rng) for law in STEP_DELAYS.values()], axis=0)
    assert 0.002 < (delays > 3 * DAY).mean() < 0.03
    assert (delays > DAY).mean() > 0.05, "a window of one day would cut visibly"


def test_shares_and_constants(logs: Path) -> None:
    shares = json.loads((logs / "truth" / "shares.json").read_text())
    assert sum(shares["share"].values()) == pytest.approx(1.0)
    assert sum(shares["group_share"].values()) == pytest.approx(1.0)
    assert min(shares["share"].values()) > 0.01
    config = json.loads((logs / "truth" / "config.json").read_text())
    assert config["settings"]["seed"] == 5 and config["weights"]["match"] == WEIGHTS.match
    assert config["feature_launch_date"] == "2026-01-11"
    assert config["delay_law"]["purchase"]["median"] == list(STEP_DELAYS["purchase"].median)


def test_match_by_hand() -> None:
    world = build_world(SETTINGS)
    queries, catalogue = world.queries, world.catalogue
    query = np.flatnonzero((queries.attributes >= 0).all(axis=1) & (queries.brand >= 0))[:1]
    item = np.array([0])
    asked, has = set(queries.attributes[query[0]].tolist()), set(catalogue.attributes[0].tolist())
    points = 1.2 * (queries.category[query[0]] == catalogue.category[0]) + 1.3 * len(asked & has) / 2
    points += 1.2 * (queries.brand[query[0]] == catalogue.brand[0])
    assert match(queries, catalogue, query, item)[0] == pytest.approx((points - 1.4) / 0.75)
    assert match(queries, catalogue, np.array([queries.no_query]), item)[0] == 0.0


def test_head_and_tail() -> None:
    world = build_world(SETTINGS)
    assert len(set(world.queries.text[:-1])) == len(world.queries.popularity) == 60
    for shares in (world.queries.popularity, world.catalogue.popularity):
        top = np.sort(shares)[::-1]
        assert shares.sum() == pytest.approx(1.0) and top[: len(top) // 10].sum() > 0.25
    texts = "".join(world.catalogue.title) + "".join(world.queries.text[:-1])
    assert any("\uac00" <= letter <= "\ud7a3" for letter in texts), "some words are Hangul"


def test_drawing_inside_a_category_follows_the_weights() -> None:
    category, weight = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.3, 0.2, 0.0, 0.4])
    drawn = draw_in_category(category, weight, np.repeat([0, 1, -1], 20_000), np.random.default_rng(4)).reshape(3, -1)
    counts = [np.bincount(row, minlength=5) / 20_000 for row in drawn]
    np.testing.assert_allclose(counts[0], [0.25, 0.75, 0, 0, 0], atol=0.02)
    np.testing.assert_allclose(counts[1], [0, 0, 1 / 3, 0, 2 / 3], atol=0.02)
    np.testing.assert_allclose(counts[2], weight, atol=0.02)


def test_pair_numbers_are_fixed_and_normal() -> None:
    first, second = np.divmod(np.arange(40_000), 200)
    numbers = pair_normal(first, second, salt=1)
    np.testing.assert_array_equal(numbers[::-1], pair_normal(first[::-1], second[::-1], salt=1))
    assert scipy.stats.kstest(numbers, "norm").pvalue > 0.001
    assert abs(np.corrcoef(numbers, pair_normal(first, second, salt=2))[0, 1]) < 0.02
