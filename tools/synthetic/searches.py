"""One day's lists: who searches for what and when, and the items that the noisy logging policy shows, in its order."""

from __future__ import annotations

import dataclasses

import numpy as np

from tools.synthetic.catalogue import ItemDay
from tools.synthetic.customers import draw_in_category, draw_rows, pair_normal
from tools.synthetic.queries import match
from tools.synthetic.settings import DAY, POLICY, SEARCH_STREAM, Settings
from tools.synthetic.world import World

SHORTEST, LONGEST = 10, 40
OVERSAMPLING = 4
NEED_SHARE = 0.45
SAME_CATEGORY, NEIGHBOUR_CATEGORY = 0.75, 0.92
MATCH_NOISE, SEMANTIC_NOISE = 0.45, 0.15


@dataclasses.dataclass(frozen=True)
class Lists:
    """`B` searches (or feed pages) of one day and the `N` items they show, list after list in displayed order."""

    time: np.ndarray  # [B] int64 milliseconds, ascending
    customer: np.ndarray  # [B] int
    query: np.ndarray  # [B] int, `Queries.no_query` in the feed
    size: np.ndarray  # [B] int
    list_index: np.ndarray  # [N] int
    item: np.ndarray  # [N] int
    position: np.ndarray  # [N] int, 1-based
    match: np.ndarray  # [N] true match of query and item
    match_score: np.ndarray  # [N] what the old retrieval engine measures of it
    semantic_score: np.ndarray  # [N] what the engine launched later measures of it

    @property
    def starts(self) -> np.ndarray:
        """[B] row of each list's first item."""
        return np.cumsum(self.size) - self.size


def draw_lists(settings: Settings, world: World, today: ItemDay, day: int, count: int, feed: bool) -> Lists:
    """Draws `count` lists of one day; `feed` lists have no query and follow the customer's interests."""
    rng = settings.rng(SEARCH_STREAM, day, int(feed))
    customers, queries = world.customers, world.queries
    customer = np.searchsorted(np.cumsum(customers.activity), rng.random(count) * customers.activity.sum())
    customer = np.minimum(customer, len(customers.activity) - 1)
    time = np.sort(settings.day_start(day) + _time_of_day(rng, count))
    category = draw_rows(customers.interest, customer, rng)
    if feed:
        query = np.full(count, queries.no_query)
    else:
        fresh = draw_in_category(queries.category[:-1], queries.popularity, category, rng)
        needed = customers.needs[customer, rng.integers(0, customers.needs.shape[1], count)]
        query = np.where(rng.random(count) < NEED_SHARE, needed, fresh)
        category = queries.category[query]
    wanted = np.minimum(LONGEST, SHORTEST + rng.exponential(6.0, count).astype(np.int64))
    list_index, item = draw_items(world, today, category, wanted, rng)
    return _display(world, time, customer, query, list_index, item, rng)


def _time_of_day(rng: np.random.Generator, count: int) -> np.ndarray:
    """[B] milliseconds after midnight; evenings are busier (density 1 - 0.6 cos(2 pi (x - 0.2)), by rejection)."""
    draws = rng.random((count, 12))
    accepted = rng.random((count, 12)) * 1.6 < 1.0 - 0.6 * np.cos(2.0 * np.pi * (draws - 0.2))
    first = accepted.argmax(axis=1)
    return (draws[np.arange(count), first] * DAY).astype(np.int64)


def draw_items(
    world: World, today: ItemDay, category: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(list_index [N], item [N]): `wanted` different released items per list, or those there are, most of its category, by popularity."""
    catalogue = world.catalogue
    lists = np.repeat(np.arange(len(wanted)), wanted * OVERSAMPLING)
    source = rng.random(len(lists))
    categories = len(catalogue.category_name)
    neighbour = (category + 1) % categories
    target = np.where(
        source < SAME_CATEGORY, category[lists], np.where(source < NEIGHBOUR_CATEGORY, neighbour[lists], -1)
    )
    item = draw_in_category(catalogue.category, catalogue.popularity, target, rng)
    released = today.released[item]
    lists, item = lists[released], item[released]
    first = np.sort(np.unique(lists * len(catalogue.category) + item, return_index=True)[1])
    lists, item = lists[first], item[first]
    size = np.bincount(lists, minlength=len(wanted))
    kept = np.arange(len(lists)) - np.repeat(np.cumsum(size) - size, size) < wanted[lists]
    return lists[kept], item[kept]


def engine_scores(world: World, query: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(true match, match_score, semantic_score) of pairs of query and item, each [N]; the same for a pair on every day."""
    true_match = match(world.queries, world.catalogue, query, item)
    match_score = true_match + MATCH_NOISE * pair_normal(query, item, salt=1)
    return true_match, match_score, true_match + SEMANTIC_NOISE * pair_normal(query, item, salt=2)


def _display(
    world: World,
    time: np.ndarray,
    customer: np.ndarray,
    query: np.ndarray,
    list_index: np.ndarray,
    item: np.ndarray,
    rng: np.random.Generator,
) -> Lists:
    """Orders each list by the logging policy's noisy score."""
    no_query = query[list_index] == world.queries.no_query
    true_match, match_score, semantic_score = engine_scores(world, query[list_index], item)
    log_popularity = np.log(world.catalogue.popularity)
    popularity = (log_popularity - log_popularity.mean()) / log_popularity.std()
    score = (
        POLICY.match * match_score
        + POLICY.popularity * popularity[item]
        + POLICY.noise * rng.standard_normal(len(item))
    )
    order = np.lexsort((-score, list_index))
    size = np.bincount(list_index, minlength=len(time))
    position = np.arange(len(item)) - np.repeat(np.cumsum(size) - size, size) + 1
    blank = np.where(no_query, np.nan, 0.0)
    return Lists(
        time=time,
        customer=customer,
        query=query,
        size=size,
        list_index=list_index,
        item=item[order],
        position=position,
        match=true_match[order],
        match_score=(match_score + blank)[order],
        semantic_score=(semantic_score + blank)[order],
    )
