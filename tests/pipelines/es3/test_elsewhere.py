"""Which sample an engagement of another domain labels: every tier by hand, and a plain reference on random logs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cvr.errors import CvrError
from cvr.transforms import hash_strings
from pipelines.es3 import checks
from pipelines.es3.options import EntireSpace
from tests.pipelines.es3.cases import SPEC, built, feed, had, labels, search
from tests.pipelines.logs import DAY, HOUR, MINUTE, T0, done
from tests.pipelines.steps import steps_settings

NOBODY = {"signals": 0, "from_other_lists": 0, "clicked": 0, "exposed": 0, "unexposed": 0, "nowhere": 0, "new_labels": 0}
FEED = feed("f", 10 * MINUTE, "ab")
CLICK = [done("click", 11 * MINUTE, "a", search_id="f")]
BOUGHT = [done("purchase", 40 * MINUTE, "a", search_id="f")]
LATER = "bb" if hash_strings(["bb"]).numpy()[0] > hash_strings(["aa"]).numpy()[0] else "aa"

# name: (task, rows, events, candidates, labels `search:item` -> delay, changes of the counts)
CASES: dict[str, tuple[str, list[Any], list[Any], list[Any], dict[str, int], dict[str, int]]] = {
    "a click: exposed": ("click", [*search("s", 0, "ab"), *FEED], CLICK, [], {"s:a": 11 * MINUTE}, {"exposed": 1}),
    "a click: unexposed": ("click", [*search("s", 0, "b"), *FEED], CLICK, had("s", "a"), {"s:a": 11 * MINUTE}, {"unexposed": 1}),
    "a click: an older exposed one before an unexposed one": (
        "click", [*search("s", 0, "a"), *search("s2", MINUTE, "b"), *FEED], CLICK, had("s2", "a"), {"s:a": 11 * MINUTE}, {"exposed": 1},
    ),
    "a click: the latest of several": (
        "click", [*search("s", 0, "a"), *search("s2", MINUTE, "a"), *FEED], CLICK, [], {"s2:a": 10 * MINUTE}, {"exposed": 1},
    ),
    "a click: of one millisecond the greater hash": (
        "click", [*search("aa", 0, "a"), *search("bb", 0, "a"), *FEED], CLICK, [], {f"{LATER}:a": 11 * MINUTE}, {"exposed": 1},
    ),
    "a click: on an item that the search had clicks on already": (
        "click", [*search("s", 0, "a"), *FEED], [*CLICK, done("click", MINUTE, "a", search_id="s")], [], {"s:a": MINUTE},
        {"exposed": 1, "new_labels": 0},
    ),
    "a purchase: clicked before a later exposed one": (
        "purchase", [*search("s", 0, "a"), *search("s2", 5 * MINUTE, "a"), *FEED],
        [*BOUGHT, done("click", MINUTE, "a", search_id="s")], [], {"s:a": 40 * MINUTE}, {"clicked": 1},
    ),
    "a purchase: a click after it does not count": (
        "purchase", [*search("s", 0, "a"), *search("s2", 5 * MINUTE, "a"), *FEED],
        [*BOUGHT, done("click", 41 * MINUTE, "a", search_id="s")], [], {"s2:a": 35 * MINUTE}, {"exposed": 1},
    ),
    "a purchase: a click elsewhere does not make a sample clicked": (
        "purchase", [*search("s", 0, "a"), *search("s2", 12 * MINUTE, "b"), *FEED], [*BOUGHT, *CLICK], had("s2", "a"),
        {"s:a": 40 * MINUTE}, {"exposed": 1},
    ),
    "a purchase: unexposed": ("purchase", [*search("s", 0, "b"), *FEED], BOUGHT, had("s", "a"), {"s:a": 40 * MINUTE}, {"unexposed": 1}),
    "a purchase: without its page, of a domain": (
        "purchase", [*search("s", 0, "b"), *FEED], [done("purchase", HOUR, "c", domain="feed")], had("s", "c"), {"s:c": HOUR},
        {"unexposed": 1, "from_other_lists": 0},
    ),
    "a purchase: of no known page in no known domain": (
        "purchase", [*search("s", 0, "b"), *FEED], [done("purchase", HOUR, "c")], had("s", "c"), {},
        {"signals": 0, "from_other_lists": 0, "new_labels": 0},
    ),
    "a purchase: without a page, last seen in the feed": (
        "purchase", [*search("s", 0, "a"), *FEED], [done("purchase", HOUR, "a")], [], {"s:a": HOUR}, {"exposed": 1},
    ),
    "a purchase: without a page, last seen in a search": (
        "purchase", [*FEED, *search("s", 20 * MINUTE, "a")], [done("purchase", HOUR, "a", domain="feed")], [], {"s:a": 40 * MINUTE},
        {"signals": 0, "from_other_lists": 0, "new_labels": 0},
    ),
    "the window's last millisecond": (
        "click", [*search("s", 0, "a"), *feed("f", HOUR - 1, "a")], [done("click", HOUR, "a", search_id="f")], [], {"s:a": HOUR},
        {"exposed": 1},
    ),
    "out of the window": (
        "click", [*search("s", 0, "a"), *feed("f", HOUR, "a")], [done("click", HOUR + 1, "a", search_id="f")], [], {}, {"nowhere": 1},
    ),
    "out of the clicked one's window, an exposed one within": (
        "purchase", [*search("s", 0, "a"), *search("s2", HOUR, "a"), *feed("f", DAY, "a")],
        [done("click", MINUTE, "a", search_id="s"), done("purchase", DAY + 1, "a", search_id="f")], [], {"s2:a": DAY + 1 - HOUR},
        {"exposed": 1},
    ),
    "another customer": ("click", [*search("s", 0, "a", "v"), *FEED], CLICK, [], {}, {"nowhere": 1}),
    "another item": ("click", [*search("s", 0, "b"), *FEED], CLICK, [], {}, {"nowhere": 1}),
    "a search that comes later": ("click", [*search("s", 12 * MINUTE, "a"), *FEED], CLICK, [], {}, {"nowhere": 1}),
    "nobody's click": (
        "click", [*search("s", 0, "a", None), *feed("f", MINUTE, "a", None)], [done("click", 2 * MINUTE, "a", None, search_id="f")], [],
        {}, {"nowhere": 1},
    ),
    "a search of the test split": (
        "click", [*search("s", 10 * DAY, "a"), *feed("f", 10 * DAY + 1, "a")], [done("click", 10 * DAY + 2, "a", search_id="f")], [],
        {}, {"nowhere": 1},
    ),
    "twice in the log": (
        "click", [*search("s", 0, "ab"), *FEED], [{**CLICK[0], "event_id": "1"}] * 2, [], {"s:a": 11 * MINUTE}, {"exposed": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_sample_that_is_labelled(name: str) -> None:
    task, rows, events, candidates, wanted, changes = CASES[name]
    found = built(rows, events, candidates, unexposed_per_list=5, attribute_elsewhere=True, partitions=2)
    labelled = int(not changes.get("nowhere"))
    expected = NOBODY | {"signals": 1, "from_other_lists": labelled, "new_labels": labelled} | changes
    assert (labels(found, task), found.counts["es3"]["attribution"][task]) == (wanted, expected)


@pytest.mark.parametrize(("credit", "signals"), [("last", 1), ("first", 0), ("all", 0)])
def test_what_ordinary_attribution_credits_to_a_search_is_no_signal(credit: str, signals: int) -> None:
    """Shown in a search, then in the feed, bought without a page: the first impression is the search's, and `all` labels both."""
    rows, events = [*search("s", 0, "a"), *FEED], [done("purchase", HOUR, "a")]
    found = built(rows, events, credit=credit, attribute_elsewhere=True)
    counts = found.counts["es3"]["attribution"]["purchase"]
    assert counts["signals"] == signals and labels(found, "purchase") == {"s:a": HOUR}
    plain = built(rows, events, credit=credit)
    assert labels(plain, "purchase") == ({} if signals else {"s:a": HOUR})
    assert plain.counts["attribution"] == found.counts["attribution"], "ordinary counts stay what they were"


def test_labels_elsewhere_may_convert_a_list() -> None:
    rows, events = [*search("s", 0, "b"), *search("s2", 0, "b", "v"), *FEED], BOUGHT
    flags: dict[str, Any] = {"unexposed_per_list": 5, "drop_unconverted": "train"}
    plain, wide = (built(rows, events, had("s", "a"), attribute_elsewhere=on, **flags) for on in (False, True))
    assert [counts["lists"]["kept"] for counts in (plain.counts, wide.counts)] == [0, 1]


def test_it_needs_a_task_of_clicks() -> None:
    settings = steps_settings(SPEC.replace("CREDIT", "last"), es3=EntireSpace(attribute_elsewhere=True, click_event="tap"))
    with pytest.raises(CvrError, match="no task of the event 'tap'"):
        checks.check(settings, {"impressions": set()})


# A plain reference on random logs -------------------------------------------------------------------------------------------------

WINDOWS = {"click": HOUR, "purchase": DAY}
Random = tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]


def _random_log(seed: int) -> Random:
    """Searches and feed pages of three customers with overlapping items, and engagements with and without a page."""
    rng = np.random.default_rng(seed)
    rows, events, candidates = [], [], []
    for number in range(24):
        customer, time = f"u{rng.integers(3)}", int(rng.integers(0, 36)) * HOUR // 3
        items = "".join(rng.permutation(list("abcde"))[: rng.integers(1, 4)])
        of_feed = rng.random() < 0.4
        rows += (feed if of_feed else search)(f"s{number}", time, items, customer)
        candidates += [] if of_feed else had(f"s{number}", "".join(sorted(set("abcde") - set(items))), customer)
        for item in items:
            for event in ("click", "purchase"):
                if rng.random() < 0.4:
                    page, domain = f"s{number}" if rng.random() < 0.5 else None, "feed" if of_feed else "search"
                    after = time + int(rng.integers(0, 4)) * HOUR // 3
                    events.append(done(event, after, item, customer, search_id=page, domain=domain))
    return rows, events, candidates


def _hash(text: str) -> int:
    return int(hash_strings([text]).numpy()[0])


def _expected(log: Random, task: str, clicks: dict[tuple[str, str], int]) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Labels of searches by ordinary and hierarchical attribution, written as loops; also ordinary ones by (search, item)."""
    rows, events, candidates = log
    about = {row["search_id"]: row for row in rows}
    samples = [(row, 1) for row in rows if row.get("domain") != "feed"]
    samples += [({**about[row["search_id"]], "item_id": row["item_id"], "position": 99}, 2) for row in candidates]
    ordinary: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], int] = {}

    def add(labels: dict[tuple[str, str], int], row: dict[str, Any], delay: int) -> None:
        key = row["search_id"], row["item_id"]
        labels[key] = min(labels.get(key, delay), delay)

    for event in (event for event in events if event["event"] == task):
        of_item = [row for row in rows if row["item_id"] == event["item_id"] and row["customer_id"] == event["customer_id"]]
        of_item = [row for row in of_item if event["search_id"] in (None, row["search_id"]) and row["time"] <= event["time"]]
        last = max(of_item, key=lambda row: (row["time"], _hash(row["search_id"]), -row["position"]), default=None)
        inside = last is not None and event["time"] - last["time"] <= WINDOWS[task]
        if inside and last.get("domain") != "feed":
            add(ordinary, last, event["time"] - last["time"])
            add(found, last, event["time"] - last["time"])
            continue
        if not inside and event["domain"] != "feed":
            continue
        fitting = []
        for row, kind in samples:
            delay = event["time"] - row["time"]
            same = row["item_id"] == event["item_id"] and row["customer_id"] == event["customer_id"]
            if same and 0 <= delay <= WINDOWS[task]:
                clicked = task == "purchase" and kind == 1 and clicks.get((row["search_id"], row["item_id"]), 2**62) <= event["time"]
                fitting.append((0 if clicked else kind, -row["time"], -_hash(row["search_id"]), row["position"], row))
        if fitting:
            add(found, min(fitting, key=lambda sample: sample[:4])[4], event["time"] - min(fitting, key=lambda s: s[:4])[4]["time"])
    return {f"{name}:{item}": delay for (name, item), delay in found.items()}, ordinary


@pytest.mark.parametrize("seed", range(12))
def test_against_loops(seed: int) -> None:
    log = _random_log(seed)
    found = built(*log, unexposed_per_list=5, attribute_elsewhere=True, partitions=1 + seed % 3)
    starts = {row["search_id"]: row["time"] for row in log[0]}
    _, ordinary = _expected(log, "click", {})
    clicks = {key: starts[key[0]] + delay for key, delay in ordinary.items()}
    for task in ("click", "purchase"):
        assert labels(found, task) == _expected(log, task, clicks)[0]
        counts = found.counts["es3"]["attribution"][task]
        assert counts["signals"] == sum(counts[tier] for tier in ("clicked", "exposed", "unexposed", "nowhere"))


def test_the_random_logs_reach_every_tier() -> None:
    totals = dict.fromkeys(itertools.product(("click", "purchase"), ("clicked", "exposed", "unexposed", "nowhere")), 0)
    for seed in range(4):
        found = built(*_random_log(seed), unexposed_per_list=5, attribute_elsewhere=True)
        for task, tier in totals:
            totals[task, tier] += found.counts["es3"]["attribution"][task][tier]
    assert totals.pop(("click", "clicked")) == 0 and min(totals.values()) > 0, totals


@pytest.mark.parametrize("seed", range(4))
def test_no_purchase_counts_twice(seed: int) -> None:
    """With pages as lists of their own, too: one engagement labels one item of one list at most."""
    rows, events, candidates = _random_log(seed)
    events = [{**event, "time": event["time"] + place} for place, event in enumerate(events)]  # so that a delay tells them apart
    found = built(rows, events, candidates, unexposed_per_list=5, attribute_elsewhere=True, searchify=("feed",))
    starts = {row["search_id"]: row["time"] for row in rows}
    for task in ("click", "purchase"):
        at = [starts[name.split("#")[0].split(":")[0]] + delay - T0 for name, delay in labels(found, task).items()]
        assert len(set(at)) == len(at) > 3
