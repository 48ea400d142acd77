"""Un-exposed expansion: a uniform sample of what a search had and did not show becomes items of its list (UniScale, ES3 rule 1).

A candidate becomes a row like the impressions of its search: it takes the request's columns from them and those of the item from its own,
its time is the search's, it has no label yet, and its place is UNSHOWN, behind all that was shown.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.batches import column, mix, one_chunk
from pipelines.counts import Counts
from pipelines.lists import DELAY, UNSHOWN, Lists, split_of
from pipelines.settings import Settings

NO_LABEL = -1


def drawn(searches: np.ndarray, items: np.ndarray, most: int, seed: int) -> np.ndarray:
    """A mask of at most `most` rows per search, drawn uniformly without replacement; bool [R].

    The draw is the order of a hash of (seed, search, item), so it depends neither on the order of rows nor on other searches.
    """
    seeds = np.full(len(searches), seed, np.int64)
    chance = mix(mix(searches, seeds), mix(items, seeds))
    order = np.lexsort((items, chance, searches))
    ordered = searches[order]
    first = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    rank = np.arange(len(order)) - np.flatnonzero(first)[np.cumsum(first) - 1] if len(order) else np.zeros(0, np.int64)
    mask = np.zeros(len(order), bool)
    mask[order] = rank < most
    return mask


def expand(candidates: pa.Table | None, lists: Lists, settings: Settings) -> tuple[pa.Table, Counts]:
    """The sampled candidates of training lists as rows like those of `lists` (all lists of a partition), and what became of the others.

    The counts are the reasons in their order: `duplicate`, `no_request` (the search has no impressions), `other_domain`, `not_training`
    (validation and test lists stay as they were shown), `shown`, `not_drawn`, and `kept`.
    """
    if candidates is None or not len(candidates):
        return lists.rows.slice(0, 0), {}
    search, item = column(candidates, "search"), column(candidates, "item")
    known = column(lists.rows, "search")[lists.starts]
    place = pd.Index(known).get_indexer(search) if len(known) else np.full(len(search), -1)
    pairs = mix(search, item)
    train = split_of(lists.time, settings) == 0
    reasons = {
        "duplicate": pd.Series(pairs).duplicated().to_numpy(),
        "no_request": place < 0,
        "other_domain": ~np.append(column(lists.rows, "is_list")[lists.starts], True)[place],
        "not_training": ~np.append(train, True)[place],
        "shown": np.isin(pairs, mix(column(lists.rows, "search"), column(lists.rows, "item"))),
    }
    left, counts = np.ones(len(search), bool), {"candidates": len(search)}
    for reason, mask in reasons.items():
        counts[reason] = int((left & mask).sum())
        left &= ~mask
    rows = np.flatnonzero(left)
    rows = rows[drawn(search[rows], item[rows], settings.es3.unexposed_per_list, settings.sampling_seed)]
    counts |= {"not_drawn": int(left.sum()) - len(rows), "kept": len(rows)}
    return _as_rows(candidates.take(pa.array(rows)), lists, place[rows]), counts


def _as_rows(candidates: pa.Table, lists: Lists, place: np.ndarray) -> pa.Table:
    """Candidates in the columns of impressions; `place` [R] is the list of each."""
    rows = lists.rows.take(pa.array(lists.starts[place]))
    own = {name: candidates.column(name) for name in candidates.column_names if name not in ("customer", "search")}
    own["time"] = pa.array(lists.time[place])
    own["position"] = pa.array(np.full(len(place), UNSHOWN, np.int32))
    own |= {name: pa.array(np.full(len(place), NO_LABEL)) for name in rows.column_names if name.startswith(DELAY)}
    for name, values in own.items():
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), values.cast(rows.schema.field(name).type))
    return rows


def with_candidates(shown: pa.Table, hidden: pa.Table) -> pa.Table:
    """Impressions and expanded candidates together, in one chunk per column."""
    return one_chunk(pa.concat_tables([shown, hidden])) if len(hidden) else shown
