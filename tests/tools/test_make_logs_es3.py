"""Un-exposed candidates and a feed that contradicts search: what they add to a log, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr.errors import CvrError
from cvr.schema import load_spec
from tests.tools.test_make_logs import SMALL, contents, make, read
from tools.synthetic.settings import CONFLICTING, WEIGHTS, Settings, feed_weights


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("plain") / "logs")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("wide") / "logs", candidates_per_search=25, feed_conflict=1.0)


def _of(rows: pd.DataFrame, domain: str) -> pd.DataFrame:
    return rows[rows["search_id"].str.startswith("f" if domain == "feed" else "s")].reset_index(drop=True)


def test_candidates_change_no_other_file(plain: Path, tmp_path: Path) -> None:
    before, after = contents(plain), contents(make(tmp_path / "logs", candidates_per_search=25))
    new = {name for name in after if "candidates/" in name}
    assert len(new) == 2 * 4 and set(after) - new == set(before)
    assert [name for name in before if before[name] != after[name]] == ["truth/config.json"]


def test_candidates_are_items_of_the_search_that_were_not_shown(wide: Path) -> None:
    rows, shown = read(wide / "candidates"), _of(read(wide / "impressions"), "search")
    assert not rows.duplicated(["search_id", "item_id"]).any()
    assert rows.groupby("search_id").size().between(10, 25).all() and set(rows["search_id"]) == set(shown["search_id"])
    assert rows.merge(shown, on=["search_id", "item_id"]).empty
    about = shown.drop_duplicates("search_id").set_index("search_id")
    assert (rows["customer_id"].fillna("") == about["customer_id"].fillna("").loc[rows["search_id"]].to_numpy()).all()
    columns = {"price", "in_stock", "review_score", "review_count", "match_score", "semantic_score"}
    assert set(rows) == {"search_id", "customer_id", "item_id"} | columns
    # What the engine knows of a query and an item is the same whether it was shown or not.
    queried = [table[["search_id", "item_id", "match_score"]].merge(about["query"], on="search_id") for table in (rows, shown)]
    both = queried[0].merge(queried[1], on=["query", "item_id"])
    assert len(both) > 100 and (both["match_score_x"] == both["match_score_y"]).all()


def test_the_truth_of_candidates(wide: Path) -> None:
    rows, truth = read(wide / "candidates"), read(wide / "truth" / "candidates")
    assert (rows[["search_id", "item_id"]] == truth[["search_id", "item_id"]]).all(axis=None)
    terms = truth[[name for name in truth if name.startswith("term_")]]
    np.testing.assert_allclose(terms.sum(axis=1), truth["bayes_score"], atol=1e-4)
    assert (truth["term_position"] == 0).all() and truth["bayes_score"].std() > 1


def test_a_conflict_turns_some_weights_round_in_the_feed_only(plain: Path, wide: Path) -> None:
    both = [read(folder / "truth" / "impressions") for folder in (plain, wide)]
    keys = [["search_id", "position", "item_id"]] * 2
    for domain, changed in (("search", ()), ("feed", CONFLICTING)):
        old, new = (_of(rows, domain) for rows in both)
        assert (old[keys[0]] == new[keys[1]]).all(axis=None) and len(old) > 1000
        for name in (name for name in old if name.startswith("term_")):
            sign = -1 if name.removeprefix("term_") in changed else 1
            np.testing.assert_array_equal(sign * old[name], new[name], err_msg=name)
    same = [_of(rows, "search")[["clicked", "carted", "purchased"]] for rows in both]
    assert (same[0] == same[1]).all(axis=None)


def test_customers_follow_the_conflicting_taste(plain: Path, wide: Path) -> None:
    """In the feed cheap good items are clicked more often; with the conflict dear poor ones are."""
    for folder, sign in ((plain, 1), (wide, -1)):
        rows = _of(read(folder / "truth" / "impressions"), "feed")
        cheap_and_good = sign * (rows["term_price"] + rows["term_quality"])
        difference = cheap_and_good[rows["clicked"]].mean() - cheap_and_good.mean()
        assert sign * difference > 0.02


def test_weights_of_a_feed() -> None:
    assert feed_weights(0.0) == WEIGHTS
    half, whole = feed_weights(0.5), feed_weights(1.0)
    for name in WEIGHTS.__dict__:
        factors = (0.0, -1.0) if name in CONFLICTING else (1.0, 1.0)
        assert (getattr(half, name), getattr(whole, name)) == tuple(factor * getattr(WEIGHTS, name) for factor in factors)


def test_the_configuration_says_it(wide: Path) -> None:
    config = json.loads((wide / "truth" / "config.json").read_text())
    assert config["settings"]["feed_conflict"] == 1.0 and config["settings"]["candidates_per_search"] == 25
    assert config["feed_weights"]["price"] == -config["weights"]["price"]
    assert config["counts"]["candidates"] == len(read(wide / "candidates"))


@pytest.mark.parametrize(("name", "value"), [("candidates_per_search", -1), ("feed_conflict", 1.5), ("feed_conflict", -0.1)])
def test_bad_settings_name_their_flag(name: str, value: object) -> None:
    with pytest.raises(CvrError, match=f"--{name}="):
        Settings(**{**SMALL, name: value})  # type: ignore[arg-type]


def test_the_spec_is_the_plain_one_with_two_marks(project_root: Path) -> None:
    plain, marked = (load_spec(project_root / "configs" / "features" / name) for name in ("synthetic.yaml", "synthetic_es3.yaml"))
    assert set(marked.features) - set(plain.features) == {"domain", "exposure"}
    assert all(marked.features[name] == feature for name, feature in plain.features.items())
    assert marked.tasks == plain.tasks and marked.tables == plain.tables
    assert marked.features["domain"].vocabulary[0] == "search" and marked.features["exposure"].vocabulary[0] == "exposed"
