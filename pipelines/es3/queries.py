"""Queries for lists of other domains, out of what was asked strictly before them (UniScale, ES3 rule 3).

    a   the query by which this customer last came to this item: of the engagement's last search impression
    b   the query by which customers most often came to this item
    c   the query whose text is most like the item's title, of all that were asked

Which query an engagement came from is what aggregates by query count, too. `pairs` are engagements with the query of the search that they
came from; `queries` are texts with the first time that they were asked, and columns that belong to them as they were then.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from cvr.transforms import PAD
from pipelines.batches import column, concat, mix, to_bytes
from pipelines.history import count_before
from pipelines.settings import Plan

ASKED = "asked"
"""The column of engagements with the query of the search that they came from, PAD without one."""
QUERIES = "queries"
TIERS = ("own", "frequent", "nearest")


def first_of(table: pa.Table, order: np.ndarray, keys: np.ndarray) -> pa.Table:
    """The first row of each key in an order of the rows [R]; rows come in that order."""
    ordered = keys[order]
    return table.take(pa.array(order[np.append(True, ordered[1:] != ordered[:-1])[: len(order)]]))


def asked_queries(impressions: pa.Table, plan: Plan) -> pa.Table:
    """The queries of searches, each with its earliest impression's `time`, `search`, text and own columns."""
    rows = impressions.filter(pa.array(column(impressions, "is_list") & (column(impressions, "query") != PAD)))
    kept = plan.columns("impression")
    own = [f"{kind}:{name}" for name in ("query", *plan.es3.query_columns) for kind in sorted(kept.get(name, ()))]
    order = np.lexsort((column(rows, "item"), column(rows, "position"), *(column(rows, name) for name in ("search", "time", "query"))))
    return first_of(rows, order, column(rows, "query")).select(["query", "time", "search", *dict.fromkeys(own)])


def earliest(pieces: Iterable[bytes]) -> bytes:
    """All queries of several tables, each as it was asked first; b"" without any. Usable as a Beam combiner."""
    found = concat(piece for piece in pieces if piece)
    if not found:
        return b""
    table = found[QUERIES]
    order = np.lexsort(tuple(column(table, name) for name in ("search", "time", "query")))
    return to_bytes(QUERIES, first_of(table, order, column(table, "query")))


def own_queries(engagements: pa.Table, customers: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The query of the last engagement of each customer [A] with an item before a time, PAD without one; int64 [A].

    Of engagements at one time the greater hash of the query counts.
    """
    asked, owner = column(engagements, ASKED), column(engagements, "customer")
    rows = np.flatnonzero((asked != PAD) & (owner != PAD))
    keys = mix(owner[rows], column(engagements, "item")[rows])
    at, asked = column(engagements, "time")[rows], asked[rows]
    order = np.lexsort((asked, at, keys))
    starts, ends = count_before(keys[order], at[order], mix(customers, items), times)
    known = (customers != PAD) & (ends > starts)
    return np.where(known, np.append(asked[order], PAD)[np.where(known, ends - 1, len(order))], PAD)


def frequent_queries(pairs: pa.Table, items: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The query that engagements with each item [A] before a time came from most often, PAD without one; int64 [A].

    Of equally frequent ones the smaller hash counts.
    """
    item, query, at = (column(pairs, name) for name in ("item", "query", "time"))
    order = np.lexsort((at, query, item))
    item, query, at = item[order], query[order], at[order]
    begins = np.flatnonzero(np.append(True, (item[1:] != item[:-1]) | (query[1:] != query[:-1]))[: len(item)])
    group_item, group_query = item[begins], query[begins]
    low, high = (np.searchsorted(group_item, items, side=side) for side in ("left", "right"))
    groups = high - low
    asker = np.repeat(np.arange(len(items)), groups)
    group = np.repeat(low, groups) + np.arange(int(groups.sum())) - np.repeat(np.cumsum(groups) - groups, groups)
    number = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(item))))
    starts, ends = count_before(number, at, group, times[asker])
    best = np.lexsort((group_query[group], starts - ends, asker))
    best = best[np.append(True, asker[best][1:] != asker[best][:-1])[: len(best)]]
    best = best[(ends - starts)[best] > 0]
    found = np.full(len(items), PAD, np.int64)
    found[asker[best]] = group_query[group[best]]
    return found
