"""The three tiers of made-up queries against loops, and that none knows what comes later."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from cvr.transforms import PAD
from pipelines.batches import column, from_bytes, to_bytes
from pipelines.es3 import similarity
from pipelines.es3.queries import QUERIES, earliest, frequent_queries, own_queries


def _drawn(seed: int, rows: int = 300) -> pa.Table:
    """Engagements of few customers, items and queries at few times, some without customer or query."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(high, size=rows) for name, high in (("customer", 4), ("item", 5), ("asked", 4), ("time", 20))}
    return pa.table({name: values * (1 if name == "time" else 1_000_003) for name, values in columns.items()})


@pytest.mark.parametrize("seed", range(3))
def test_own_and_frequent_queries_against_loops(seed: int) -> None:
    events, wanted = _drawn(seed), _drawn(seed + 100, 60)
    rows = list(zip(*(column(events, name).tolist() for name in ("customer", "item", "asked", "time")), strict=True))
    customers, items, times = (column(wanted, name) for name in ("customer", "item", "time"))
    own, frequent = [], []
    for customer, item, time in zip(customers.tolist(), items.tolist(), times.tolist(), strict=True):
        mine = [(at, query) for who, what, query, at in rows if (who, what) == (customer, item) and who and query and at < time]
        own.append(max(mine, default=(0, PAD))[1])
        counted = Counter(query for _, what, query, at in rows if what == item and query and at < time)
        frequent.append(min(counted, key=lambda query: (-counted[query], query), default=PAD))  # noqa: B023
    assert own_queries(events, customers, items, times).tolist() == own and len(set(own)) == 4
    known = events.filter(pa.array(column(events, "asked") != PAD))
    pairs = known.select(["item", "asked", "time"]).rename_columns(["item", "query", "time"])
    assert frequent_queries(pairs, items, times).tolist() == frequent and len(set(frequent)) == 4


def test_what_happens_at_the_same_millisecond_is_not_known() -> None:
    events = pa.table({"customer": [7], "item": [3], "asked": [11], "time": [5]})
    pairs = pa.table({"item": [3], "query": [11], "time": [5]})
    one = np.array([7]), np.array([3])
    for time, found in ((5, PAD), (6, 11)):
        assert own_queries(events, *one, np.array([time])).tolist() == [found]
        assert frequent_queries(pairs, one[1], np.array([time])).tolist() == [found]
    assert frequent_queries(pairs.slice(0, 0), one[1], np.array([9])).tolist() == [PAD]


def test_each_query_is_known_from_its_first_search_on() -> None:
    tables = [
        pa.table({"query": [5, 9], "time": [30, 10], "search": [1, 2], "s:query": pa.array(["b", "a"]).dictionary_encode()}),
        pa.table({"query": [5, 9], "time": [20, 10], "search": [3, 1], "s:query": pa.array(["b later", "a"]).dictionary_encode()}),
    ]
    pieces = [to_bytes(QUERIES, table) for table in tables]
    for order in (pieces, pieces[::-1], [earliest(pieces[:1]), b"", *pieces[1:]]):
        name, table = from_bytes(earliest(order))
        assert name == QUERIES and table.select(["query", "time", "search"]).to_pydict() == {
            "query": [5, 9], "time": [20, 10], "search": [3, 1],
        }  # fmt: skip
    assert earliest([]) == b"" == earliest([b""])


TITLES = ["red running shoe", "blue kettle", None, "운동화 빨강", "zz"]
ASKED = ["running shoes", "red shoe", "kettle", "빨강 운동화", ""]


def test_the_nearest_query_has_most_in_common_and_was_asked_before() -> None:
    titles, asked = similarity.embed(TITLES), similarity.embed(ASKED)
    late = np.full(5, 100)
    assert similarity.nearest(titles, late, asked, np.zeros(5, np.int64)).tolist() == [0, 2, -1, 3, -1]
    # The best one was asked at the very moment, then the next best: never a later one.
    assert similarity.nearest(titles, late, asked, np.array([100, 0, 100, 101, 0])).tolist() == [1, 1, -1, -1, -1]
    assert similarity.nearest(titles[:0], late[:0], asked, late).tolist() == []
    assert similarity.nearest(titles, late, asked[:0], late[:0]).tolist() == [-1] * 5


def test_of_equally_similar_queries_the_first_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    words = ["red", "blue", "shoe", "kettle", "lace", "lamp"]
    titles, asked = (similarity.embed([" ".join(rng.choice(words, 3)) for _ in range(40)]) for _ in range(2))
    times, known = rng.integers(5, 20, 40), rng.integers(0, 15, 40)
    whole = similarity.nearest(titles, times, asked, known)
    dense = (titles.toarray() @ asked.toarray().T).round(9) * (known[None, :] < times[:, None])
    assert whole.tolist() == [int(row.argmax()) if row.max() > 0 else -1 for row in dense]
    monkeypatch.setattr(similarity, "_CELLS", 120)
    assert (similarity.nearest(titles, times, asked, known) == whole).all()


def test_similarities_of_pairs() -> None:
    vectors = similarity.embed(["red shoe", "Red  shoe", "zip", None])
    found = similarity.similarities(vectors, np.array([0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 0]))
    assert found.tolist() == [1.0, 1.0, 0.0, 0.0, 1.0]
    assert similarity.similarities(vectors, np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
