"""Random small logs for hypothesis: a customer with many rows, others with few and rows without one, copies, times that collide."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.pipelines.logs import MINUTE, done, shown

SPEC = """
dataset: tiny
tasks:
  click: {events: [click], window: 40m, credit: last}
  cart: {events: [cart, click], window: 10m, credit: all}
  purchase: {events: [purchase], window: 5h, credit: first, primary: true}
features:
  price: {kind: numerical, level: item, from: impression.price}
  stock: {kind: numerical, level: item, from: item.stock}
  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 8, dim: 2}}
  recent: {kind: sequence, level: context, history: {events: [click, purchase], length: 3}, embedding: {buckets: 64, dim: 2}}
  bought: {kind: sequence, level: context, history: {events: [purchase], length: 2}, embedding: {buckets: 64, dim: 2}}
  clicks: {kind: numerical, level: item, aggregate: {by: [item], event: click, per: impression, prior: 2, bucket: 1ms}}
  own: {kind: numerical, level: item, aggregate: {by: [customer, item], event: click, bucket: 1ms, window: 2h}}
  orders: {kind: numerical, level: context, aggregate: {by: [customer], event: purchase, per: impression, bucket: 10m}}
  query: {kind: numerical, level: item, aggregate: {by: [query, item], event: cart, bucket: 1h, lag: 30m}}
"""
"""Every credit rule, windows of ten minutes to five hours, and aggregates by every kind of key."""

MINUTES = st.integers(0, 24 * 60) | st.sampled_from([0, 10, 40, 50, 60, 61, 300, 301])
CUSTOMERS = st.sampled_from(["hot", "hot", "hot", "u", None])
SEARCHES = st.lists(
    st.tuples(
        MINUTES,
        CUSTOMERS,
        st.sampled_from([["a"], ["a", "b"], ["c", "b", "a"], ["a", "b", "a"]]),
        st.sampled_from([0, 0, 1, 7, -7, 45, 200]),  # minutes between the impressions of a list
    ),
    min_size=4,
    max_size=14,
)
EVENT = st.tuples(
    st.sampled_from(["click", "click", "cart", "purchase"]),
    MINUTES,
    st.sampled_from("abcz"),
    CUSTOMERS,
    st.none() | st.integers(0, 8),  # its search
    st.none() | st.integers(0, 6),  # its event id
)
EVENTS = st.lists(EVENT, min_size=4, max_size=24)
REPEATS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 1, 30, 200, 299])), max_size=6)


def impressions_of(searches: list[Any]) -> list[dict[str, Any]]:
    """The rows of drawn `SEARCHES`."""
    rows: list[dict[str, Any]] = []
    for number, (minute, customer, items, gap) in enumerate(searches):
        found = shown(f"s{number}", minute * MINUTE, items, customer, device=f"d{number % 2}", query=f"q{number % 3}", price=1.0)
        rows += [{**row, "time": row["time"] + place * gap * MINUTE} for place, row in enumerate(found)]
    return rows


def engagements_of(drawn: list[Any], searches: list[Any]) -> list[dict[str, Any]]:
    """The rows of drawn `EVENTS`; one with a search carries that search's customer."""
    events = []
    for event, minute, item, customer, search, event_id in drawn:
        if search is not None:
            search = search % len(searches)
            customer = searches[search][1]
        known = None if event_id is None else f"{customer}{item}{event_id}{event}"
        events.append(done(event, minute * MINUTE, item, customer, search_id=None if search is None else f"s{search}", event_id=known))
    return events


def again(rows: list[dict[str, Any]], repeats: list[Any]) -> list[dict[str, Any]]:
    """Copies of rows, drawn as `REPEATS`: (which row, how many minutes later)."""
    return [{**rows[row % len(rows)], "time": rows[row % len(rows)]["time"] + later * MINUTE} for row, later in repeats]
