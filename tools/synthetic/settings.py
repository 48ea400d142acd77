"""What a synthetic log is made from: the user's choices and the planted constants."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np

from cvr.errors import CvrError

MILLISECONDS = 1000
MINUTE = 60 * MILLISECONDS
HOUR = 60 * MINUTE
DAY = 24 * HOUR

WORLD_STREAM, ITEM_STREAM, SEARCH_STREAM, BEHAVIOUR_STREAM, EVENT_STREAM, CANDIDATE_STREAM = 1, 2, 3, 4, 5, 6


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of `tools.make_logs`; every field reaches config.json."""

    days: int = 21
    searches_per_day: int = 2500
    customers: int = 2000
    items: int = 2000
    queries: int = 600
    seed: int = 1
    start_date: str = "2026-01-01"
    feature_launch_day: int = 10
    feed_share: float = 0.2
    candidates_per_search: int = 0
    feed_conflict: float = 0.0

    def __post_init__(self) -> None:
        for name, low in (("days", 1), ("searches_per_day", 1), ("customers", 1), ("items", 60), ("queries", 4)):
            if getattr(self, name) < low:
                raise CvrError(f"--{name}={getattr(self, name)}: expected at least {low}")
        for name in ("seed", "feature_launch_day", "candidates_per_search"):
            if getattr(self, name) < 0:
                raise CvrError(f"--{name}={getattr(self, name)}: expected 0 or more")
        for name in ("feed_share", "feed_conflict"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise CvrError(f"--{name}={getattr(self, name)}: expected a share between 0 and 1")
        try:
            datetime.date.fromisoformat(self.start_date)
        except ValueError as error:
            raise CvrError(f"--start_date={self.start_date}: expected a date such as 2026-01-01 ({error})") from error

    def date(self, day: int) -> datetime.date:
        """The calendar date (UTC) of day 0, 1, ..."""
        return datetime.date.fromisoformat(self.start_date) + datetime.timedelta(days=day)

    def day_start(self, day: int) -> int:
        """Milliseconds since the Unix epoch (UTC) at which day 0, 1, ... begins."""
        return (self.date(day) - datetime.date(1970, 1, 1)).days * DAY

    @property
    def feed_lists_per_day(self) -> int:
        """Feed pages shown per day."""
        return round(self.searches_per_day * self.feed_share)

    @property
    def categories(self) -> int:
        """Number of item categories: one per 80 items, between 4 and 24."""
        return int(np.clip(self.items // 80, 4, 24))

    def rng(self, stream: int, *key: int) -> np.random.Generator:
        """An independent random stream, e.g. `rng(SEARCH_STREAM, day, domain)`; never shared between days."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(stream, *key))))


@dataclasses.dataclass(frozen=True)
class Weights:
    """Planted weights of the utility; all inputs have a standard deviation of about 1 over the catalogue.

    The names up to `price` are main effects. `query_price` and `query_item` cross query and item, the `customer_*` terms cross
    customer and item (or customer and match), `third_order` is customer x query x item.
    """

    attractiveness: float = 0.9
    quality: float = 0.55
    stock: float = 2.5
    price: float = 0.6
    position: float = 0.4
    match: float = 0.8
    query_price: float = 0.45
    query_item: float = 0.35
    customer_engagement: float = 0.6
    customer_understanding: float = 0.6
    customer_brand: float = 0.45
    customer_item: float = 0.25
    third_order: float = 0.5


@dataclasses.dataclass(frozen=True)
class Policy:
    """How the shop of the log ranked: a noisy mix of match and popularity (weights on standardised scores)."""

    match: float = 0.35
    popularity: float = 0.35
    noise: float = 1.0


WEIGHTS = Weights()
CONFLICTING = ("quality", "price", "customer_engagement", "customer_brand")
"""What a feed that conflicts with search turns round; attractiveness, stock, position and customer_item stay."""
POLICY = Policy()


def feed_weights(conflict: float) -> Weights:
    """The weights in the feed: those of CONFLICTING times 1 - 2 c, so that 0 is as in search, 0.5 indifferent and 1 the opposite."""
    return dataclasses.replace(WEIGHTS, **{name: (1.0 - 2.0 * conflict) * getattr(WEIGHTS, name) for name in CONFLICTING})
