"""Un-exposed candidates: items that the engine had for a search and did not show."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tools.synthetic.behaviour import utility_terms
from tools.synthetic.catalogue import ItemDay
from tools.synthetic.searches import LONGEST, Lists, draw_items, engine_scores
from tools.synthetic.settings import CANDIDATE_STREAM, Settings
from tools.synthetic.tables import impression_table
from tools.synthetic.world import World

SHOWN_ONLY = ("time", "position", "query", "domain", "session_id", "query_category", "customer_segment")
"""Columns of impressions that belong to the request or to the place on the page, so candidates do not carry them."""


def draw_candidates(settings: Settings, world: World, today: ItemDay, lists: Lists, day: int) -> Lists:
    """Up to `candidates_per_search` items per search of the day, drawn as the shown ones are, but not shown.

    The result has the searches of `lists`. Its position is 1 everywhere: a candidate has no place, and log 1 adds nothing to its utility.
    """
    rng, most = settings.rng(CANDIDATE_STREAM, day), settings.candidates_per_search
    wanted = np.full(len(lists.size), most + LONGEST)
    index, item = draw_items(world, today, world.queries.category[lists.query], wanted, rng)
    items = len(world.catalogue.item_id)
    fresh = ~np.isin(index * items + item, lists.list_index * items + lists.item)
    index, item = index[fresh], item[fresh]
    size = np.bincount(index, minlength=len(lists.size))
    kept = np.arange(len(index)) - np.repeat(np.cumsum(size) - size, size) < most
    index, item = index[kept], item[kept]
    match, match_score, semantic_score = engine_scores(world, lists.query[index], item)
    return dataclasses.replace(
        lists,
        size=np.bincount(index, minlength=len(lists.size)),
        list_index=index,
        item=item,
        position=np.ones(len(item), np.int64),
        match=match,
        match_score=match_score,
        semantic_score=semantic_score,
    )


def candidate_table(world: World, today: ItemDay, candidates: Lists, ids: dict[str, np.ndarray], launched: bool) -> pd.DataFrame:
    """One row per un-exposed candidate: search_id, customer_id, item_id and the columns of items that impressions carry."""
    return impression_table(world, today, candidates, ids, "search", launched).drop(columns=list(SHOWN_ONLY))


def candidate_truth(world: World, today: ItemDay, candidates: Lists, ids: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per candidate: `bayes_score`, the utility that it would have at the top of the page, and its planted terms."""
    terms = utility_terms(world, today, candidates)
    columns = {
        "search_id": ids["search_id"][candidates.list_index],
        "item_id": ids["item_id"][candidates.item],
        "bayes_score": np.sum(list(terms.values()), axis=0),
    }
    return pd.DataFrame({**columns, **{f"term_{name}": values.astype(np.float32) for name, values in terms.items()}})
