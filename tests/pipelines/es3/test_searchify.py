"""Lists out of feed pages: their items, queries, features and names, and that they know nothing of what comes later."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cvr.errors import CvrError
from cvr.transforms import EMPTY
from pipelines.es3 import checks
from pipelines.es3.options import EntireSpace
from tests.pipelines.es3.cases import SPEC, built, context, described, feed, had, hashed, search
from tests.pipelines.logs import DAY, HOUR, MINUTE, done
from tests.pipelines.steps import steps_settings

FEED: dict[str, Any] = {"searchify": ("feed",)}
PAGE = feed("f", 2 * HOUR, "dbacb", device="phone")
TOUCH = [done("click", 2 * HOUR + MINUTE, "a", search_id="f"), done("purchase", 3 * HOUR, "a")]


def _own(query: str = "mine", time: int = 0, name: str = "s") -> tuple[list[Any], list[Any]]:
    """A search of this customer in which the item was clicked."""
    return search(name, time, "ab", query=query, topic=f"topic of {query}"), [done("click", time + 1, "a", search_id=name)]


def test_an_engaged_item_and_what_is_like_it_and_untouched() -> None:
    rows, events = _own()
    found = built([*rows, *PAGE], [*events, *TOUCH], **FEED)
    assert set(found.records) == {("train", "s"), ("train", "f#1")}
    items = described(found)["f#1"]
    # b stands on the page twice, d has no n-gram in common with a's title; places are those of the page.
    assert [(row["item"], row["position"], row["exposure"]) for row in items] == [
        ("b", 2, "exposed"), ("a", 3, "exposed"), ("c", 4, "exposed"), ("b", 5, "exposed"),
    ]  # fmt: skip
    assert [(row["click"], row["purchase"]) for row in items] == [(None, None), (MINUTE, HOUR), (None, None), (None, None)]
    values = context(found, "f#1")
    assert values["domain"] == hashed("feed") and context(found, "s")["domain"] == hashed("search")
    assert values["query"] == hashed("mine") and values["device"] == hashed("phone") and values["topic"] == EMPTY
    counts = found.counts["es3"]["searchified"]
    assert counts == {
        "pages": 1, "not_training": 0, "immature": 0, "not_sampled": 0, "no_engagement": 0, "engaged_items": 1, "unconverted": 0,
        "query_own": 1, "query_frequent": 0, "query_nearest": 0, "query_none": 0, "alone": 0, "lists": 1, "items": 4,
        "positives:click": 1, "positives:purchase": 1,
    }  # fmt: skip
    assert found.counts["lists"]["other_domain"] == 1


def test_columns_of_the_query_come_along() -> None:
    rows, events = _own()
    found = built([*rows, *PAGE], [*events, *TOUCH], query_columns=("topic",), **FEED)
    values = context(found, "f#1")
    assert values["topic"] == hashed("topic of mine") and values["device"] == hashed("phone")


@pytest.mark.parametrize(("flags", "items"), [
    ({"feed_negatives": 1}, "ba"),
    ({"feed_negatives": 2}, "bab"),
    ({"least_similarity": 0.65}, "bab"),
    ({"similar_by": "kind", "least_similarity": 1.0}, "bab"),
])  # fmt: skip
def test_which_negatives(flags: dict[str, Any], items: str) -> None:
    rows, events = _own()
    found = built([*rows, *PAGE], [*events, *TOUCH], **FEED, **flags)
    assert "".join(row["item"] for row in described(found)["f#1"]) == items


def test_a_list_for_every_engaged_item_of_a_page() -> None:
    rows, events = _own("mine zip")
    page = feed("f", 2 * HOUR, "abced")
    more = [done("click", 2 * HOUR + 5, "b", search_id="f"), done("click", 2 * HOUR + 6, "d", search_id="f")]
    found = built([*rows, *page], [*events, *TOUCH, *more], **FEED)
    lists = {name: "".join(row["item"] for row in items) for name, items in described(found).items() if "#" in name}
    assert lists == {"f#1": "ac", "f#2": "bc"}, "neither is a negative of the other, and nothing is like d"
    assert found.counts["es3"]["searchified"]["alone"] == 1
    assert found.counts["es3"]["searchified"]["engaged_items"] == 3


# Tiers ----------------------------------------------------------------------------------------------------------------------------


def _query_of(rows: list[Any], events: list[Any], **flags: Any) -> tuple[int, str]:
    """(query of the page's list, the tier that it came by)"""
    found = built([*rows, *PAGE], [*events, *TOUCH], **FEED, **flags)
    counts = found.counts["es3"]["searchified"]
    (tier,) = [tier for tier in ("own", "frequent", "nearest", "none") if counts[f"query_{tier}"]]
    return context(found, "f#1")["query"] if tier != "none" else EMPTY, tier


def test_the_customers_own_latest_query_for_the_item_first() -> None:
    first, second = _own("older"), _own("newer", HOUR, "s2")
    others = [_own("common", 5, f"o{number}") for number in range(3)]
    rows = [*first[0], *second[0], *(row for part in others for row in part[0])]
    events = [*first[1], *second[1], *(event for part in others for event in part[1])]
    assert _query_of(rows, events) == (hashed("newer"), "own")


def _of_others(query: str, time: int, name: str, customer: str | None = "v") -> tuple[list[Any], list[Any]]:
    return search(name, time, "ab", customer, query), [done("click", time + 1, "a", customer, search_id=name)]


def test_then_the_items_most_frequent_query() -> None:
    parts = [_of_others("rare", 0, "o1"), _of_others("common", 1, "o2", None), _of_others("common", 2, "o3", "w")]
    rows, events = ([row for part in parts for row in part[place]] for place in (0, 1))
    assert _query_of(rows, events, partitions=5) == (hashed("common"), "frequent")


def test_then_the_query_nearest_to_the_title() -> None:
    rows = [*search("o1", 0, "d", "v", "kettle"), *search("o2", 0, "d", "v", "running shoes"), *search("o3", 0, "d", "w", None)]
    assert _query_of(rows, [], partitions=5) == (hashed("running shoes"), "nearest")


def test_and_no_list_without_any() -> None:
    assert _query_of(search("o1", 0, "d", "v", "xyz"), []) == (EMPTY, "none")
    found = built([*PAGE], TOUCH, **FEED)
    assert not found.records and found.counts["es3"]["searchified"]["query_none"] == 1


@pytest.mark.parametrize("later", [2 * HOUR, 2 * HOUR + 1, 4 * HOUR])
def test_later_queries_are_never_used(later: int) -> None:
    """A planted query of the customer for the very item, asked from the page's time on, and clicks on it before the search are the trap."""
    planted = [_own("later", later, f"s{number}") for number in range(3)]
    rows, events = ([row for part in planted for row in part[place]] for place in (0, 1))
    nearest = search("o1", 0, "d", "v", "running")
    assert _query_of([*rows, *nearest], events) == (hashed("running"), "nearest")
    frequent = _of_others("rare", 0, "o1")
    assert _query_of([*rows, *frequent[0]], [*events, *frequent[1]]) == (hashed("rare"), "frequent")
    own = _own("mine")
    assert _query_of([*rows, *own[0]], [*events, *own[1]]) == (hashed("mine"), "own")
    assert _query_of(rows, events) == (EMPTY, "none")


def test_a_search_before_whose_click_comes_later_is_not_used() -> None:
    rows = [*search("s", HOUR + 30 * MINUTE, "ab", query="mine"), *search("o1", 0, "d", "v", "running")]
    assert _query_of(rows, [done("click", 2 * HOUR, "a", search_id="s")]) == (hashed("running"), "nearest")


# Features, splits, partitions -----------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_query_at_the_pages_time() -> None:
    rows, events = _own()
    more = [*events, done("click", HOUR // 2, "a", search_id="s"), done("click", 2 * HOUR, "b", search_id="s")]
    found = built([*rows, *PAGE], [*more, *TOUCH], **FEED)
    values, items = context(found, "f#1"), described(found)["f#1"]
    assert values["query_clicks"] == 2 and values["own_query_clicks"] == 2, "clicks from the page's time on are not known"
    assert [row["pair_clicks"] for row in items] == [0, 2, 0, 0] and [row["own_clicks"] for row in items] == [0, 2, 0, 0]
    record = [record for (_, name), record in found.records.items() if name == "f#1"]
    from cvr.records import decode
    from pipelines.settings import plan_of

    columns = decode(plan_of(found.settings).spec, record)
    assert columns.sequences["recent"].age.tolist() == pytest.approx([1.5 * 3600, 2 * 3600 - 0.001])
    assert columns.bags["words"].lengths[0] > 1 and columns.time[0] % DAY == 2 * HOUR


def test_only_training_gets_them() -> None:
    rows, events = _own()
    later = [{**row, "search_id": "late", "time": row["time"] + 10 * DAY} for row in PAGE]
    found = built([*rows, *PAGE, *later], [*events, *TOUCH, done("click", 10 * DAY + 2 * HOUR + 1, "a", search_id="late")], **FEED)
    assert {name for _, name in found.records} == {"s", "f#1"} and found.counts["es3"]["searchified"]["not_training"] == 1


def test_unconverted_immature_and_unsampled_pages() -> None:
    rows, events = _own()
    base = [*rows, *PAGE], [*events, TOUCH[0]]
    for flags, reason in (
        ({"drop_unconverted": "train"}, "unconverted"),
        ({"log_end": DAY // 2 + 1_767_225_600_000}, "immature"),
        ({"sampling_rate": 1e-9}, "not_sampled"),
    ):
        found = built(*base, **FEED, **flags)
        assert found.counts["es3"]["searchified"][reason] == 1 and not any("#" in name for _, name in found.records), reason
    found = built([*rows, *PAGE], events, **FEED)
    assert found.counts["es3"]["searchified"]["no_engagement"] == 1


def test_an_item_whose_engagement_moved_to_a_search_is_neither_positive_nor_negative() -> None:
    rows, events = _own()
    more = [done("click", 2 * HOUR + 5, "b", search_id="f")]
    page = feed("f", 2 * HOUR, "abc")
    plain = built([*rows, *page], [*events, *TOUCH, *more], **FEED)
    items = {name: "".join(row["item"] for row in rows) for name, rows in described(plain).items()}
    assert items == {"s": "ab", "f#1": "ac", "f#2": "bc"}
    # b's click, an hour after a search that had it, goes there; a's click and purchase too.
    again = search("s2", 90 * MINUTE, "de", query="mine")
    moved = built([*rows, *again, *page], [*events, *TOUCH, *more], had("s2", "b"), unexposed_per_list=2, attribute_elsewhere=True, **FEED)
    lists = described(moved)
    assert [row["click"] for row in lists["s2"] if row["item"] == "b"] == [30 * MINUTE + 5]
    assert [row["purchase"] for row in lists["s"]] == [3 * HOUR, None]
    assert "".join(row["item"] for row in lists["f#1"]) == "ac" and "f#2" not in lists


def test_other_lists_stay_as_they_are() -> None:
    rows, events = _own()
    log = [*rows, *PAGE, *search("o", DAY, "ab", "v")], [*events, *TOUCH]
    plain, wide = built(*log), built(*log, **FEED)
    assert {key: value for key, value in wide.records.items() if "#" not in key[1]} == plain.records
    assert plain.counts["attribution"] == wide.counts["attribution"] and plain.counts["lists"] == wide.counts["lists"]


def _random_log(seed: int) -> tuple[list[Any], list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    rows, events, candidates = [], [], []
    for number in range(40):
        customer, time = (None, "u", "v", "w")[rng.integers(4)], number * HOUR
        items = "".join(rng.permutation(list("abcde"))[:4])
        if number % 2:
            rows += search(f"s{number}", time, items, customer, str(rng.choice(["red shoe", "kettle", "lace", "running"])), topic="t")
            candidates += had(f"s{number}", "".join(set("abcde") - set(items)), customer)
        else:
            rows += feed(f"s{number}", time, items, customer)
        events += [done("click", time + 1, item, customer, search_id=f"s{number}") for item in items if rng.random() < 0.5]
    return rows, events, candidates


@pytest.mark.parametrize("seed", range(2))
def test_what_comes_later_changes_no_byte(seed: int) -> None:
    """Without all rows from a page's time on, but the page's own, its lists are the same."""
    rows, events, _ = _random_log(seed)
    whole = built(rows, events, **FEED).records
    late = [name for _, name in sorted(whole) if "#" in name][-3:]
    for page in {name.split("#")[0] for name in late}:
        time = next(row["time"] for row in rows if row["search_id"] == page)
        past = [[row for row in part if row["time"] < time or row["search_id"] == page] for part in (rows, events)]
        found = built(*past, **FEED).records
        names = [key for key in whole if key[1].startswith(f"{page}#")]
        assert names and all(found[key] == whole[key] for key in names) and len(past[0]) < len(rows)


@pytest.mark.parametrize("seed", range(3))
def test_partitions_and_the_order_of_rows_change_nothing(seed: int) -> None:
    rows, events, candidates = _random_log(seed)
    flags = {"unexposed_per_list": 1, "attribute_elsewhere": True, "query_columns": ("topic",), **FEED}
    whole = built(rows, events, candidates, partitions=1, **flags)
    assert sum("#" in name for _, name in whole.records) > 5
    for part in (rows, events, candidates):
        random.Random(seed).shuffle(part)
    again = built(rows, events, candidates, partitions=4 + 3 * seed, **flags)
    assert again.records == whole.records and again.counts["es3"] == whole.counts["es3"]


# Refusals -------------------------------------------------------------------------------------------------------------------------

HAVE = {"impressions": {"domain", "query", "topic"}, "items": {"title", "kind"}}


@pytest.mark.parametrize(
    ("flags", "have", "message"),
    [
        ({"searchify": ("feed",), "similar_by": "colour"}, HAVE, "no column 'colour' to compare by; they have kind, title"),
        ({"searchify": ("feed",)}, {**HAVE, "items": set()}, "they have no such table"),
        ({"searchify": ("feed",)}, {**HAVE, "impressions": {"query"}}, "need the columns domain and query"),
        ({"searchify": ("feed",), "query_columns": ("topic", "genre")}, HAVE, "--query_columns=genre: no context feature"),
        ({"unexposed_per_list": 3}, HAVE, r"holds no candidates/\*.parquet"),
    ],
)
def test_what_a_step_needs(flags: dict[str, Any], have: dict[str, set[str]], message: str) -> None:
    settings = steps_settings(SPEC.replace("CREDIT", "last"), es3=EntireSpace(**flags))
    with pytest.raises(CvrError, match=message):
        checks.check(settings, have)


def test_marks_that_no_feature_reads_are_told() -> None:
    bare = "\n".join(line for line in SPEC.replace("CREDIT", "last").splitlines() if "exposure:" not in line and "domain:" not in line)
    flags = EntireSpace(unexposed_per_list=1, searchify=("feed",))
    assert checks.unmarked(steps_settings(bare, es3=flags)) == ["impression.exposure", "impression.domain"]
    assert not checks.unmarked(steps_settings(SPEC.replace("CREDIT", "last"), es3=flags))
