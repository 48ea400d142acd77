"""Items: categories, brands, titles, Zipf popularity, latent quality, and what changes from day to day."""

from __future__ import annotations

import dataclasses

import numpy as np

from tools.synthetic import vocabulary
from tools.synthetic.settings import ITEM_STREAM, WORLD_STREAM, Settings

BRANDS = 12
ATTRIBUTES_PER_CATEGORY = 8
QUERY_RANK = 4
RELEASE_HORIZON = 60
LATE_SHARE = 0.15
IN_STOCK_SHARE = 0.96
SALE_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Everything about `I` items that does not change; rows are sorted by category."""

    category: np.ndarray  # [I] int
    brand: np.ndarray  # [I] int, every brand sells in every category
    attributes: np.ndarray  # [I, 2] int, two different ids
    title: np.ndarray  # [I] str
    popularity: np.ndarray  # [I] share of exposure wanted by the logging policy; sums to 1
    quality: np.ndarray  # [I] latent, N(0, 1)
    appeal: np.ndarray  # [I] latent part of attractiveness that no review shows, N(0, 1)
    review_score: np.ndarray  # [I] 1..5
    review_count: np.ndarray  # [I] int
    base_price: np.ndarray  # [I] currency units
    price_centre: np.ndarray  # [I] log of the category's typical price
    query_vector: np.ndarray  # [I, QUERY_RANK], meets the query's vector
    phase: np.ndarray  # [I, 3] phases of the daily drift
    release_day: np.ndarray  # [I] int, 0 for most
    category_attributes: np.ndarray  # [C, ATTRIBUTES_PER_CATEGORY]
    brand_name: np.ndarray  # [brands] str
    category_name: np.ndarray  # [C] str

    @property
    def item_id(self) -> np.ndarray:
        """[I] str ids as they stand in the logs."""
        return np.char.mod("i%06d", np.arange(len(self.category))).astype(object)


@dataclasses.dataclass(frozen=True)
class ItemDay:
    """What `I` items look like on one day."""

    price: np.ndarray  # [I]
    price_rank: np.ndarray  # [I] log price against the category's typical price, about N(0, 1)
    in_stock: np.ndarray  # [I] 0 or 1
    attractiveness: np.ndarray  # [I] latent, about N(0, 1)
    released: np.ndarray  # [I] bool


def zipf(count: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Shares 1 / rank**exponent over a random order of `count` things; sums to 1."""
    weights = 1.0 / np.arange(1, count + 1) ** exponent
    return rng.permutation(weights / weights.sum())


def build_catalogue(settings: Settings) -> Catalogue:
    """Draws the items; depends on the seed and on the number of items only."""
    rng = settings.rng(WORLD_STREAM, 0)
    count, categories = settings.items, settings.categories
    category = np.sort(np.arange(count) % categories)
    brand = rng.integers(0, BRANDS, count)
    pools = np.stack([rng.permutation(len(vocabulary.ATTRIBUTES))[:ATTRIBUTES_PER_CATEGORY] for _ in range(categories)])
    picks = rng.random((count, ATTRIBUTES_PER_CATEGORY)).argsort(axis=1)[:, :2]
    quality, appeal = rng.standard_normal(count), rng.standard_normal(count)
    popularity = zipf(count, 0.8, rng) * np.exp(0.5 * quality)
    review_count = np.minimum(5000, rng.poisson(popularity / popularity.mean() * 40.0)).astype(np.int64)
    noise = rng.standard_normal(count) * 1.5 / np.sqrt(1.0 + review_count)
    price_centre = rng.uniform(np.log(8.0), np.log(200.0), categories)[category]
    brand_premium = rng.normal(0.0, 0.25, BRANDS)[brand]
    late = rng.random(count) < LATE_SHARE
    attributes = pools[category[:, None], picks]
    brand_name = np.array(vocabulary.brand_names(BRANDS), dtype=object)
    return Catalogue(
        category=category,
        brand=brand,
        attributes=attributes,
        title=_titles(category, brand_name[brand], attributes, rng),
        popularity=popularity / popularity.sum(),
        quality=quality,
        appeal=appeal,
        review_score=np.round(np.clip(3.8 + 0.5 * (quality + noise), 1.0, 5.0), 2),
        review_count=review_count,
        base_price=np.exp(price_centre + brand_premium + rng.normal(0.0, 0.4, count)),
        price_centre=price_centre,
        query_vector=rng.standard_normal((count, QUERY_RANK)) / np.sqrt(QUERY_RANK),
        phase=rng.uniform(0.0, 2.0 * np.pi, (count, 3)),
        release_day=np.where(late, rng.integers(1, RELEASE_HORIZON, count), 0),
        category_attributes=pools,
        brand_name=brand_name,
        category_name=np.array([vocabulary.NOUNS[index][0] for index in range(categories)], dtype=object),
    )


def item_day(settings: Settings, catalogue: Catalogue, day: int) -> ItemDay:
    """The items on one day: slow drift from sine waves of 5, 17 and 90 days, sales and stock drawn afresh.

    A closed form of the day, so no day needs the days before it.
    """
    rng = settings.rng(ITEM_STREAM, day)
    waves = np.sin(2.0 * np.pi * day / np.array([5.0, 17.0, 90.0]) + catalogue.phase)
    sale = rng.random(len(waves)) < SALE_SHARE
    price = catalogue.base_price * np.exp(0.05 * waves.sum(axis=1) - 0.22 * sale)
    attractiveness = (0.7 * catalogue.appeal + 0.55 * catalogue.quality + 0.15 * waves[:, 1:].sum(axis=1)) / 0.91
    return ItemDay(
        price=np.round(price, 2),
        price_rank=(np.log(price) - catalogue.price_centre) / 0.5,
        in_stock=(rng.random(len(waves)) < IN_STOCK_SHARE).astype(np.int32),
        attractiveness=attractiveness,
        released=catalogue.release_day <= day,
    )


def _titles(category: np.ndarray, brand: np.ndarray, attributes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[I] 'brand attribute attribute noun model', a third of the words in Hangul."""
    hangul = rng.random((len(category), 3)) < 0.35
    model = rng.integers(10, 100, len(category))
    titles = [
        f"{brand[i]} {vocabulary.form(vocabulary.ATTRIBUTES[attributes[i, 0]], hangul[i, 0])} "
        f"{vocabulary.form(vocabulary.ATTRIBUTES[attributes[i, 1]], hangul[i, 1])} "
        f"{vocabulary.form(vocabulary.NOUNS[category[i]], hangul[i, 2])} {model[i]}"
        for i in range(len(category))
    ]
    return np.array(titles, dtype=object)
