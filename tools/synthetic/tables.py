"""The rows that readers of the log see: impressions and items in the canonical layout (docs/log_format.md)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tools.synthetic.catalogue import ItemDay
from tools.synthetic.events import SESSION
from tools.synthetic.searches import Lists
from tools.synthetic.settings import HOUR, Settings
from tools.synthetic.world import World

ANONYMOUS_SHARE = 0.02


def list_ids(settings: Settings, world: World, lists: Lists, day: int, feed: bool) -> dict[str, np.ndarray]:
    """search_id [B], customer_id [B] (None where anonymous), session_id [B] and item_id [I]."""
    prefix = f"{'f' if feed else 's'}{settings.date(day):%Y%m%d}"
    number = np.arange(len(lists.size))
    search_id = np.array([f"{prefix}-{index:06d}" for index in number], dtype=object)
    customer_id = world.customers.customer_id[lists.customer]
    anonymous = (number * 2654435761 + day) % 1000 < 1000 * ANONYMOUS_SHARE
    slot = (lists.time - settings.day_start(day)) // SESSION
    session_id = [
        f"{settings.date(day):%Y%m%d}-{customer}-{part}" for customer, part in zip(customer_id, slot, strict=True)
    ]
    return {
        "search_id": search_id,
        "customer_id": _null_where(anonymous, customer_id),
        "session_id": np.where(anonymous, search_id, np.array(session_id, dtype=object)),
        "item_id": world.catalogue.item_id,
    }


def impression_table(
    world: World, today: ItemDay, lists: Lists, ids: dict[str, np.ndarray], domain: str, launched: bool
) -> pd.DataFrame:
    """One row per shown item; `semantic_score` exists only once its feature is launched."""
    index, item, query = lists.list_index, lists.item, lists.query[lists.list_index]
    no_category = np.array([None], dtype=object)  # read where the category is -1: no query
    names = np.concatenate([world.catalogue.category_name, no_category])
    anonymous = np.array([customer is None for customer in ids["customer_id"]])
    segment = _null_where(anonymous, np.char.mod("s%d", world.customers.segment[lists.customer]).astype(object))
    columns = {
        "search_id": ids["search_id"][index],
        "time": lists.time[index],
        "customer_id": ids["customer_id"][index],
        "item_id": ids["item_id"][item],
        "position": lists.position.astype(np.int32),
        "query": world.queries.text[query],
        "domain": domain,
        "session_id": ids["session_id"][index],
        "query_category": names[world.queries.category[query]],
        "customer_segment": segment[index],
        "price": today.price[item].astype(np.float32),
        "in_stock": today.in_stock[item],
        "review_score": world.catalogue.review_score[item].astype(np.float32),
        "review_count": world.catalogue.review_count[item].astype(np.int32),
        "match_score": lists.match_score.astype(np.float32),
    }
    if launched:
        columns["semantic_score"] = lists.semantic_score.astype(np.float32)
    return pd.DataFrame(columns)


def score_table(settings: Settings, world: World, lists: Lists, day: int) -> pd.DataFrame:
    """What the retrieval engine knew of the day's searches before they came: `semantic_score` per query and item, an hour before midnight.

    One row per pair that the day's searches show. The score of a pair never changes, so this also holds before the feature's launch.
    """
    items = len(world.catalogue.item_id)
    query = lists.query[lists.list_index]
    pairs, first = np.unique(query * items + lists.item, return_index=True)
    return pd.DataFrame(
        {
            "query": world.queries.text[pairs // items],
            "item_id": world.catalogue.item_id[pairs % items],
            "time": np.full(len(pairs), settings.day_start(day) - HOUR),
            "semantic_score": lists.semantic_score[first].astype(np.float32),
        }
    )


def item_table(world: World) -> pd.DataFrame:
    """One row per item of the catalogue, released or not."""
    catalogue = world.catalogue
    return pd.DataFrame(
        {
            "item_id": catalogue.item_id,
            "title": catalogue.title,
            "category": catalogue.category_name[catalogue.category],
            "brand": catalogue.brand_name[catalogue.brand],
            "release_day": catalogue.release_day.astype(np.int32),
        }
    )


def _null_where(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A copy of an object array with None under the mask."""
    copied = values.copy()
    copied[mask] = None
    return copied
