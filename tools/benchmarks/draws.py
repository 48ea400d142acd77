"""What a benchmark log is drawn from: catalogue, searches, and the engagements that they cause. Everything is vectorised NumPy.

A query has a pool of 64 different items, more often popular ones; a search shows 25 of them. Times of searches are all different, so no
engagement has two candidates of the same time and every design must come to the same labels.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cvr.errors import CvrError

LIST_SIZE = 25
POOL = 64
DAY_MS = 86_400_000
START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
EVENTS = ("click", "cart", "purchase")
_FUNNEL = (0.72, 0.20, 0.08)
_DELAYS = ((30_000, 1.0), (180_000, 1.5), (10_800_000, 2.0))
"""(median ms, sigma) of the log-normal delays: click after the search, cart after the click, purchase after the cart."""
_DIRECT = 0.02
_OWN_STREAM = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class LogSettings:
    """What a log is made of. `customers` 0 means one per 150 events; shares lie between 0 and 1."""

    events: int
    days: int = 14
    customers: int = 0
    items: int = 50_000
    queries: int = 20_000
    hot: float = 0.0
    late: float = 0.0
    duplicates: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises CvrError for numbers that no log can have."""
        least = {"events": 1_000, "days": 2, "items": 4 * POOL, "queries": 1, "customers": 0, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise CvrError(f"--{name}={getattr(self, name)}: expected at least {low}")
        for name in ("hot", "late", "duplicates"):
            if not 0 <= getattr(self, name) <= 1:
                raise CvrError(f"--{name}={getattr(self, name)}: expected a share between 0 and 1, such as 0.3")

    @property
    def searches(self) -> int:
        """Number of search lists: five of six events are impressions, 25 a list."""
        return round(self.events * 5 / 6 / LIST_SIZE)

    @property
    def customer_count(self) -> int:
        """Number of customers, without the hot one."""
        return self.customers or max(self.events // 150, 10)


@dataclasses.dataclass(frozen=True)
class Searches:
    """S searches in time order: `time` (ms, strictly increasing), `customer`, `query`, `device` [S] and `items` [S, 25]; int64."""

    time: np.ndarray
    customer: np.ndarray
    query: np.ndarray
    device: np.ndarray
    items: np.ndarray


@dataclasses.dataclass(frozen=True)
class Engagements:
    """E engagements: `time` (ms), `customer`, `item`, `event` (index into EVENTS), `number` (its id), `day` (of its file); int64 [E]."""

    time: np.ndarray
    customer: np.ndarray
    item: np.ndarray
    event: np.ndarray
    number: np.ndarray
    day: np.ndarray


def zipf(uniform: np.ndarray, size: int, exponent: float) -> np.ndarray:
    """Ranks 0 .. size-1 with frequency about (rank + 1)^-exponent, from uniform numbers; 0 < exponent < 1. int64, any shape."""
    power = 1 - exponent
    return np.minimum((1 + uniform * ((size + 1) ** power - 1)) ** (1 / power) - 1, size - 1).astype(np.int64)


def ascending(values: np.ndarray, end: int) -> np.ndarray:
    """Sorted numbers below `end` as strictly increasing ones below `end`, each moved as little as needed; along the last axis."""
    steps = np.arange(values.shape[-1])
    return np.minimum(np.maximum.accumulate(values - steps, axis=-1) + steps, end - values.shape[-1] + steps)


def pools(settings: LogSettings) -> np.ndarray:
    """The items of each query, all different, int64 [queries, 64]."""
    rng = np.random.default_rng([settings.seed, _OWN_STREAM])
    strata = (np.arange(POOL) + rng.random((settings.queries, POOL))) / POOL
    return ascending(zipf(strata, settings.items, 0.9), settings.items)


def searches_of_day(settings: LogSettings, day: int, item_pools: np.ndarray) -> Searches:
    """The searches of one day; a day's draws depend on nothing but the settings and the day."""
    rng = np.random.default_rng([settings.seed, day])
    count = settings.searches * (day + 1) // settings.days - settings.searches * day // settings.days
    time = START_MS + day * DAY_MS + ascending(np.sort(rng.integers(0, DAY_MS, count)), DAY_MS)
    customer = 1 + zipf(rng.random(count), settings.customer_count, 0.4)
    customer[rng.random(count) < settings.hot] = 0
    query = zipf(rng.random(count), settings.queries, 0.8)
    first, stride = rng.integers(0, POOL, count), 1 + 2 * rng.integers(0, POOL // 2, count)
    places = (first[:, None] + stride[:, None] * np.arange(LIST_SIZE)) % POOL  # an odd stride meets no place twice
    return Searches(time, customer, query, rng.integers(0, 3, count), item_pools[query[:, None], places])


def engagements_of(settings: LogSettings, searches: Searches) -> Engagements:
    """What customers did, in time order: clicks by position, carts among the clicks, purchases among the carts, some of items not shown.

    What happens after the last day is not in the log. Copies (`duplicates`) have their event's number and stand in the same or next file.
    """
    rng = np.random.default_rng([settings.seed, _OWN_STREAM + 1])
    total = settings.events - settings.searches * LIST_SIZE
    counts = [round(total * share) for share in _FUNNEL[1:]]
    counts = [total - sum(counts), *counts]
    search = rng.integers(0, len(searches.time), counts[0])
    item = searches.items[search, zipf(rng.random(counts[0]), LIST_SIZE, 0.7)]
    direct = rng.random(counts[0]) < _DIRECT
    item[direct] = rng.integers(0, settings.items, int(direct.sum()))
    chosen, time, parts = np.arange(counts[0]), searches.time[search], []
    for event, (count, (median, sigma)) in enumerate(zip(counts, _DELAYS, strict=True)):
        chosen, time = chosen[:count], time[:count]
        time = time + np.ceil(median * np.exp(sigma * rng.standard_normal(count))).astype(np.int64)
        parts.append((time, searches.customer[search[chosen]], item[chosen], np.full(count, event)))
    columns = [np.concatenate([part[index] for part in parts]) for index in range(4)]
    kept = np.flatnonzero(columns[0] < START_MS + settings.days * DAY_MS)
    kept = kept[np.argsort(columns[0][kept], kind="stable")]
    return _filed(settings, rng, [column[kept] for column in columns])


def _filed(settings: LogSettings, rng: np.random.Generator, columns: list[np.ndarray]) -> Engagements:
    """Which day's file each engagement stands in; late ones in the next day's, copies besides their events."""
    day = (columns[0] - START_MS) // DAY_MS
    number = np.arange(len(day))
    copies = np.flatnonzero(rng.random(len(day)) < settings.duplicates)
    rows = np.concatenate([number, copies])
    file_day = np.concatenate([day + (rng.random(len(day)) < settings.late), day[copies] + rng.integers(0, 2, len(copies))])
    return Engagements(*[*(column[rows] for column in [*columns, number]), np.minimum(file_day, settings.days - 1)])
