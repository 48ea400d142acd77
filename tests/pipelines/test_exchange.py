"""What partitions ask of each other: counts and item attributes of random logs against plain Python, in any number of partitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.transforms import EMPTY, PAD, UNSEEN, hash_strings
from pipelines.aggregates import NONE
from pipelines.batches import column, from_bytes
from pipelines.exchange import ITEM, Requests, answered, by_question, item_pieces, last_of_each
from tests.pipelines.logs import DAY, HOUR, MINUTE, T0, done, plan, shown
from tests.pipelines.steps import Built, Log, Rows, run, steps_settings

AGGREGATES = {
    "item_all": {"by": ["item"], "event": "click", "bucket": "1ms"},
    "item_day": {"by": ["item"], "event": "click", "window": "2d", "bucket": "1d"},
    "item_late": {"by": ["item"], "event": "click", "window": "5h", "bucket": "2h", "lag": "90m"},
    "item_rate": {"by": ["item"], "event": "click", "per": "impression", "prior": 3, "bucket": "1ms"},
    "query_rate": {"by": ["query"], "event": "purchase", "per": "click", "prior": 0, "window": "1d", "bucket": "1h"},
    "query_item": {"by": ["query", "item"], "event": "impression", "window": "6h", "bucket": "1ms"},
    "own": {"by": ["customer", "item"], "event": "click", "bucket": "1ms"},
    "customer": {"by": ["customer"], "event": "impression", "bucket": "1h", "lag": "1h"},
    "never": {"by": ["item"], "event": "share", "bucket": "1ms"},
    "never_rate": {"by": ["item"], "event": "share", "per": "save", "prior": 1, "bucket": "1ms"},
}
UNITS = {"ms": 1, "m": MINUTE, "h": HOUR, "d": DAY}


def _flow(options: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: [{', '.join(v)}]" if isinstance(v, list) else f"{key}: {v}" for key, v in options.items()) + "}"


HEAD = """
dataset: tiny
tasks:
  click: {events: [click], window: 3h}
  purchase: {events: [purchase], window: 1d, primary: true}
features:
"""
SPEC = HEAD + "".join(f"  {name}: {{kind: numerical, level: item, aggregate: {_flow(a)}}}\n" for name, a in AGGREGATES.items())


def _ms(duration: str) -> int:
    digits = duration.rstrip("msdh")
    return int(digits) * UNITS[duration[len(digits) :]]


# A reference in plain Python ------------------------------------------------------------------------------------------------------


class Reference:
    """Counts of a log, by looking at every row."""

    def __init__(self, rows: Rows, events: Rows) -> None:
        self.events = [{**row, "event": "impression"} for row in rows]
        self.events += [{**event, "query": self._query(event, rows)} for event in events]

    @staticmethod
    def _query(event: dict[str, Any], rows: Rows) -> str | None:
        """The query of the last impression within the longest window that the engagement may come from."""
        key = "search_id" if event.get("search_id") else "customer_id"
        fits = [
            row
            for row in rows
            if row["item_id"] == event["item_id"]
            and event.get(key) is not None
            and row[key] == event[key]
            and 0 <= event["time"] - row["time"] <= DAY
        ]
        ranks = {row["search_id"]: int(hash_strings([row["search_id"]]).numpy()[0]) for row in fits}
        fits.sort(key=lambda row: (row["time"], ranks[row["search_id"]], -row["position"]))
        return fits[-1]["query"] if fits else None

    def count(self, by: list[str], event: str, options: dict[str, Any], row: dict[str, Any], time: int) -> int:
        bucket = _ms(options.get("bucket", "1d"))
        over = (time - _ms(options.get("lag", "0ms"))) // bucket
        first = -np.inf if "window" not in options else over - np.ceil(_ms(options["window"]) / bucket)
        names = {"item": "item_id", "query": "query", "customer": "customer_id"}
        return sum(
            found["event"] == event
            and first <= found["time"] // bucket < over
            and all(found[names[part]] is not None and found[names[part]] == row[names[part]] for part in by)
            for found in self.events
        )

    def value(self, options: dict[str, Any], row: dict[str, Any], time: int) -> float:
        names = {"item": "item_id", "query": "query", "customer": "customer_id"}
        if any(row[names[part]] is None for part in options["by"]):
            return np.nan
        above = self.count(options["by"], options["event"], options, row, time)
        if "per" not in options:
            return above
        below, prior = self.count(options["by"], options["per"], options, row, time), options.get("prior", 20)
        all_above, all_below = (self.count([], options[key], options, row, time) for key in ("event", "per"))
        base = all_above / all_below if all_below else 0.0
        return (above + prior * base) / (below + prior) if below + prior else np.nan


def _check(built: Built, rows: Rows, events: Rows) -> None:
    found, reference = built.columns(), Reference(rows, events)
    ends = np.cumsum(found.lengths)
    for search, time, end, length in zip(found.search_id, found.time, ends, found.lengths, strict=True):
        shown_rows = sorted((row for row in rows if row["search_id"] == search.decode()), key=lambda row: row["position"])
        for place, row in enumerate(shown_rows, start=end - length):
            expected = [reference.value(options, row, int(time)) for options in AGGREGATES.values()]
            np.testing.assert_allclose(found.item_num[place], expected, rtol=1e-6, err_msg=f"{search} {row}")
            primary = {"by": ["item"], "event": "purchase", "bucket": "1h"}
            assert found.popularity[place] == reference.value(primary, row, int(time))


TIMES = st.integers(0, 60).map(lambda hours: hours * HOUR) | st.integers(0, 3 * DAY)
LISTS = st.lists(
    st.tuples(TIMES, st.sampled_from(["u", "v", "w", None]), st.sampled_from([["a"], ["a", "b"], ["c", "b", "a"]]),
              st.sampled_from(["q", "r", None])),
    min_size=2, max_size=8,
)  # fmt: skip
EVENTS = st.lists(
    st.tuples(st.sampled_from(["click", "click", "purchase"]), TIMES, st.sampled_from("abz"), st.sampled_from(["u", "v", None]),
              st.none() | st.integers(0, 9)),
    max_size=14,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(LISTS, EVENTS)
def test_counts_equal_the_reference_in_any_number_of_partitions(lists: list[Any], drawn: list[Any]) -> None:
    rows: list[dict[str, Any]] = []
    for number, (time, customer, items, query) in enumerate(lists):
        rows += shown(f"s{number}", time, items, customer, query=query)
    events = []
    for event, time, item, customer, search in drawn:
        search = None if search is None else search % len(lists)
        name = customer if search is None else lists[search][1]
        events.append(done(event, time, item, name, search_id=None if search is None else f"s{search}"))
    one, *others = (run(Log.of(rows, events), steps_settings(SPEC, partitions=count, log_end=T0 + 9 * DAY)) for count in (1, 3, 8))
    assert len(one.records) == len(lists)
    for other in others:
        assert other.records == one.records
    _check(one, rows, events)


def test_the_tiny_numbers_by_hand() -> None:
    rows = shown("s1", 0, ["a", "b"], query="q") + shown("s2", 5 * HOUR, ["a"], "v", query="q") + shown("s3", 2 * DAY, ["a"], query=None)
    events = [done("click", HOUR, "a"), done("click", HOUR, "b"), done("purchase", 2 * HOUR, "a")]
    found = run(Log.of(rows, events), steps_settings(SPEC, log_end=T0 + 9 * DAY)).columns()
    values = {name: found.item_num[:, place].tolist() for place, name in enumerate(AGGREGATES)}
    assert values["item_all"] == [0, 0, 1, 1] and values["item_day"] == [0, 0, 0, 1]
    # s2 at 05:00: 90 minutes before it is 03:30, bucket 1 of 2 hours is going on; before it bucket 0 with the click at 01:00.
    assert values["item_late"] == [0, 0, 1, 0]
    # Before s2: a has 1 click of 1 impression, both items 2 of 2. Before s3: a has 1 of 2, both items 2 of 3.
    np.testing.assert_allclose(values["item_rate"], [0, 0, (1 + 3 * 1) / (1 + 3), (1 + 3 * 2 / 3) / (2 + 3)], rtol=1e-6)
    np.testing.assert_array_equal(values["query_rate"], np.float32([np.nan, np.nan, 1 / 2, np.nan]))
    np.testing.assert_array_equal(values["query_item"], [0, 0, 1, np.nan])
    assert values["own"] == [0, 0, 0, 1]
    assert values["customer"] == [0, 0, 0, 2], "two impressions of s1; those of s2 are another customer's"
    assert values["never"] == values["never_rate"] == [0, 0, 0, 0]
    assert found.popularity.tolist() == [0, 0, 1, 1]


# Items ----------------------------------------------------------------------------------------------------------------------------

ITEM_SPEC = """
dataset: tiny
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  stock: {kind: numerical, level: item, from: item.stock}
  brand: {kind: categorical, level: item, from: item.brand, embedding: {buckets: 8, dim: 2}}
  title: {kind: text, level: item, from: item.title, ngrams: [1], embedding: {buckets: 8, dim: 2}}
"""
SHOWN = [*shown("s1", 0, ["a", "b"], "u"), *shown("s2", 1, ["z"], "v"), *shown("s3", 2, ["a"], "w"), *shown("s4", 3, ["y"], "x")]


def _item(name: str, stock: float | None, brand: str | None, title: str | None) -> dict[str, Any]:
    return {"item_id": name, "stock": stock, "brand": brand, "title": title}


def _built(files: list[Rows], partitions: int = 3) -> Built:
    log = Log([("impressions", SHOWN), ("engagements", [done("purchase", 5, "a")]), *(("items", rows) for rows in files)])
    return run(log, steps_settings(ITEM_SPEC, partitions=partitions, log_end=T0 + 9 * DAY))


@pytest.mark.parametrize("partitions", [1, 3, 8, 40])
def test_attributes_of_items(partitions: int) -> None:
    early = [_item("a", 1.0, "x", "k"), _item("b", 2.0, None, ""), _item("b", 3.0, "y", "l")]
    late = [_item("c", 4.0, "z", "m"), _item("a", None, "w", None)]
    found = _built([early, late], partitions).columns()
    np.testing.assert_array_equal(found.item_num[:, 0], [np.nan, 3.0, np.nan, np.nan, np.nan])
    brands = hash_strings(["w", "y"]).numpy().tolist()
    assert found.cat["brand"].tolist() == [*brands, EMPTY, brands[0], EMPTY], "z and y are not in the catalogue"
    bag = found.bags["title"]
    assert bag.lengths.tolist() == [1] * 5 and [value == EMPTY for value in bag.values] == [True, False, True, True, True]
    other = _built([late, early], partitions).columns()
    np.testing.assert_array_equal(other.item_num[:, 0], [1.0, 3.0, np.nan, 1.0, np.nan], "the last row in the order of files counts")


@pytest.mark.parametrize("partitions", [1, 8])
def test_no_catalogue_at_all(partitions: int) -> None:
    found = _built([], partitions).columns()
    assert np.isneginf(found.item_num).all()
    assert found.cat["brand"].tolist() == [UNSEEN] * 5 and found.bags["title"].values.tolist() == [UNSEEN] * 5


def test_a_catalogue_without_a_column() -> None:
    found = _built([[{"item_id": "a", "stock": 5.0}], [_item("b", 6.0, "y", "l")]]).columns()
    assert found.cat["brand"].tolist() == [UNSEEN, int(hash_strings(["y"]).numpy()[0]), EMPTY, UNSEEN, EMPTY]
    assert found.item_num[:2, 0].tolist() == [5.0, 6.0]


def test_every_key_partition_learns_of_the_catalogue() -> None:
    items = pa.table({"item": np.array([8, 9, 16], np.int64), "n:x": np.array([1, 2, 3], np.float32), "order": np.arange(3)})
    found = {place: column(from_bytes(piece)[1], "item").tolist() for place, piece in item_pieces(items, 4)}
    assert found == {0: [8, 16], 1: [9], 2: [], 3: []}


def test_the_last_row_of_each_item_counts() -> None:
    order = [(3 << 40) + 1, 5, (3 << 40), 7, 6]
    items = pa.table({"item": [9, 8, 9, 7, 8], "n:x": [1.0, 2.0, 3.0, 4.0, 5.0], "order": order})
    assert last_of_each(items).to_pydict() == {"item": [7, 8, 9], "n:x": [4.0, 5.0, 1.0]}
    assert last_of_each(items.slice(0, 0)).to_pydict() == {"item": [], "n:x": []}


# Requests and answers -------------------------------------------------------------------------------------------------------------


def test_each_key_and_moment_is_asked_once_and_null_keys_never() -> None:
    requests = Requests()
    requests.add(2, np.array([7, PAD, 7, 9, 7]), np.array([1, 1, 1, 1, 2]))
    requests.add(ITEM, np.array([5, 5, 7]), np.zeros(3, np.int64))
    assert requests.places[2].tolist() == [0, NONE, 0, 1, 2] and requests.places[ITEM].tolist() == [0, 0, 1]
    pieces = dict(requests.pieces(11, 2))
    assert set(pieces) == {1}, "all keys are odd"
    assert from_bytes(pieces[1])[1].to_pydict() == {
        "question": [2, 2, 2, ITEM, ITEM],
        "key": [7, 9, 7, 5, 7],
        "moment": [1, 1, 2, 0, 0],
        "place": [0, 1, 2, 0, 1],
        "partition": [11] * 5,
    }
    nothing = Requests()
    nothing.add(0, np.array([PAD]), np.array([1]))
    assert list(nothing.pieces(0, 2)) == list(Requests().pieces(0, 2)) == []


def test_answers_go_to_their_places() -> None:
    answers = pa.table({"question": [1, 0, 1], "place": [1, 0, 0], "count_0": [10, 20, 30], "count_1": [11, 0, 31]})
    first, second, third = by_question(answers, 3)
    assert answered(second, np.array([0, NONE, 1, 0]), 0).tolist() == [30, 0, 10, 30]
    assert answered(second, np.array([0, NONE, 1, 0]), 1).tolist() == [31, 0, 11, 31]
    assert answered(first, np.array([0, NONE]), 0).tolist() == [20, 0]
    assert answered(third, np.array([NONE, NONE]), 0).tolist() == [0, 0]
    assert by_question(None, 2) == [None, None] and answered(None, np.array([NONE]), 0).tolist() == [0]
    assert answered(None, np.zeros(0, np.int64), 0).tolist() == []


def test_a_spec_that_asks_nothing_asks_nothing() -> None:
    text = HEAD + "  price: {kind: numerical, level: item, from: impression.price}\n"
    rows = shown("s", 0, ["a"], price=2.0)
    settings_ = steps_settings(text, log_end=T0 + 9 * DAY, popularity_bucket=10 * DAY)
    assert run(Log.of(rows, []), settings_).columns().item_num.tolist() == [[2.0]]
    assert not plan(text, None).exchanges
