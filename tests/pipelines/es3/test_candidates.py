"""Un-exposed candidates: which are drawn, what their rows hold, and that nothing else changes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cvr.errors import CvrError
from cvr.transforms import EMPTY, hash_strings
from pipelines.es3 import checks
from pipelines.es3.candidates import drawn
from pipelines.es3.options import EntireSpace
from tests.pipelines.es3.cases import built, described, feed, had, hashed, search
from tests.pipelines.logs import DAY, HOUR, MINUTE, done

SEARCHES = np.repeat(hash_strings([f"s{number}" for number in range(3000)]).numpy(), 10)
ITEMS = np.tile(hash_strings([f"i{number}" for number in range(10)]).numpy(), 3000)


def test_as_many_per_search_as_asked_and_every_item_equally_often() -> None:
    mask = drawn(SEARCHES, ITEMS, 3, 0).reshape(3000, 10)
    assert (mask.sum(axis=1) == 3).all()
    spread = np.sqrt(3000 * 0.3 * 0.7)
    assert (np.abs(mask.sum(axis=0) - 900) < 4 * spread).all()
    together = (mask[:, 0] & mask[:, 1]).mean()  # two of three out of ten: 3/10 * 2/9
    assert abs(together - 1 / 15) < 4 * np.sqrt(1 / 15 * 14 / 15 / 3000)
    assert drawn(SEARCHES, ITEMS, 10, 0).all() and not drawn(SEARCHES, ITEMS, 0, 0).any()


def test_the_draw_knows_neither_order_nor_other_searches_and_grows() -> None:
    mask = drawn(SEARCHES, ITEMS, 4, 7)
    order = np.random.default_rng(0).permutation(len(mask))
    assert (drawn(SEARCHES[order], ITEMS[order], 4, 7) == mask[order]).all()
    assert (drawn(SEARCHES[200:500], ITEMS[200:500], 4, 7) == mask[200:500]).all()
    assert not (drawn(SEARCHES, ITEMS, 3, 7) & ~mask).any()
    assert abs((drawn(SEARCHES, ITEMS, 4, 8) & mask).mean() - 0.16) < 0.01
    assert drawn(SEARCHES[:0], ITEMS[:0], 4, 7).shape == (0,)


ROWS = [
    *search("s1", 0, "ab", device="phone"),
    *search("s2", HOUR, "ba"),
    *search("test", 11 * DAY, "ab"),
    *feed("f", 2 * HOUR, "ab"),
]
EVENTS = [done("click", MINUTE, "a", search_id="s1"), done("purchase", 30 * MINUTE, "a")]
CANDIDATES = [*had("s1", "cdaec"), *had("f", "c"), *had("test", "c"), *had("nowhere", "c"), *had("s1", "d", price=9.0)]


def test_what_becomes_of_candidates() -> None:
    found = built(ROWS, EVENTS, CANDIDATES, unexposed_per_list=2)
    counts = found.counts["es3"]["unexposed"]
    assert counts == {
        "candidates": 9, "duplicate": 2, "no_request": 1, "other_domain": 1, "not_training": 1, "shown": 1, "not_drawn": 1, "kept": 2,
    }  # fmt: skip
    assert found.counts["rows"]["candidates"] == 9 and found.counts["lists"]["kept"] == 3


def test_the_rows_of_expanded_lists() -> None:
    lists = described(built(ROWS, EVENTS, CANDIDATES, unexposed_per_list=5))
    assert [(row["item"], row["position"], row["exposure"]) for row in lists["s1"][:2]] == [("a", 1, "exposed"), ("b", 2, "exposed")]
    hidden = lists["s1"][2:]
    assert {row["item"] for row in hidden} == set("cde") and [row["item"] for row in hidden] == sorted("cde", key=hashed)
    for row in hidden:
        assert row["position"] == 0 and row["exposure"] == "unexposed" and row["price"] in (2.0, 9.0)
        assert np.isnan(row["rank"]) and row["click"] is None and row["purchase"] is None
    assert lists["s1"][0]["rank"] == 1 and [len(lists[name]) for name in ("s2", "test")] == [2, 2]


def test_a_place_of_its_own_kind_and_columns_that_candidates_lack() -> None:
    import tensorflow as tf

    from cvr.records import parse
    from pipelines.settings import plan_of

    candidates = [{key: value for key, value in row.items() if key != "price"} for row in had("s1", "c")]
    found = built(ROWS, EVENTS, candidates, unexposed_per_list=1)
    columns = parse(plan_of(found.settings).spec, tf.constant([found.records["train", "s1"]]))
    assert columns["cat/place"].numpy().tolist() == [hashed("1"), hashed("2"), EMPTY]
    assert described(found)["s1"][2]["price"] == -np.inf, "a column that a file lacks is unseen"


def test_other_lists_and_all_that_was_shown_stay_as_they_are() -> None:
    plain, wide = (built(ROWS, EVENTS, CANDIDATES if rate else (), unexposed_per_list=rate) for rate in (0, 5))
    assert {key: wide.records[key] for key in wide.records if key != ("train", "s1")} == {
        key: plain.records[key] for key in plain.records if key != ("train", "s1")
    }
    rows = [described(found)["s1"] for found in (plain, wide)]
    assert rows[0] == rows[1][:2], "features know nothing of candidates, and candidates are not impressions"
    assert "es3" not in plain.counts and plain.counts["attribution"] == wide.counts["attribution"]


@pytest.mark.parametrize("seed", range(3))
def test_partitions_and_the_order_of_rows_change_nothing(seed: int) -> None:
    rows = [row for number in range(12) for row in search(f"s{number}", number * MINUTE, "ab", f"u{number % 5}")]
    events = [{**event, "customer_id": "u1"} for event in EVENTS]
    candidates = [row for number in range(12) for row in had(f"s{number}", "cde", f"u{number % 5}")]
    whole = built(rows, events, candidates, unexposed_per_list=2, partitions=1)
    mixed: list[list[dict[str, Any]]] = [list(part) for part in (rows, events, candidates)]
    for part in mixed:
        random.Random(seed).shuffle(part)
    again = built(*mixed, unexposed_per_list=2, partitions=1 + 3 * seed)
    assert again.records == whole.records and again.counts["es3"] == whole.counts["es3"]
    assert built(rows, events, candidates, unexposed_per_list=2, sampling_seed=seed + 1).records != whole.records


@pytest.mark.parametrize(
    "flags",
    [{"unexposed_per_list": -1}, {"feed_negatives": 0}, {"least_similarity": 1.5}, {"searchify": ("feed", "search")}],
)
def test_bad_flags_are_named(flags: dict[str, Any]) -> None:
    with pytest.raises(CvrError, match=f"--{next(iter(flags))}="):
        EntireSpace(**flags)


def test_customers_with_many_rows_stay_whole_and_are_counted() -> None:
    whole, split = (built(ROWS, EVENTS, CANDIDATES, unexposed_per_list=2, split_rows=rows) for rows in (100, 3))
    assert split.records == whole.records and "unsplit_customers" not in whole.counts["es3"]
    assert split.counts["es3"]["unsplit_customers"] == 1 and split.counts["partitions"] == {"split_customers": 0}
    assert any("kept whole: 1" in line for line in checks.report(split.counts))
