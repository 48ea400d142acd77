"""Queries: a Zipf head and tail, each with an intent (category, attributes, brand, budget) and a text that shows it."""

from __future__ import annotations

import dataclasses

import numpy as np

from tools.synthetic import vocabulary
from tools.synthetic.catalogue import BRANDS, QUERY_RANK, Catalogue, zipf
from tools.synthetic.settings import WORLD_STREAM, Settings


@dataclasses.dataclass(frozen=True)
class Queries:
    """`Q` different query texts sorted by category, and a last row (index Q) that stands for 'no query' (the feed)."""

    text: np.ndarray  # [Q + 1] str, None in the last row
    category: np.ndarray  # [Q + 1] int, -1 in the last row
    attributes: np.ndarray  # [Q + 1, 2] int, -1 where none is asked
    brand: np.ndarray  # [Q + 1] int, -1 where none is asked
    budget: np.ndarray  # [Q + 1] -1 cheap, 0, +1 premium
    vector: np.ndarray  # [Q + 1, QUERY_RANK], zero in the last row
    popularity: np.ndarray  # [Q] sums to 1

    @property
    def no_query(self) -> int:
        """The row of 'no query'."""
        return len(self.popularity)


def build_queries(settings: Settings, catalogue: Catalogue) -> Queries:
    """Draws the queries; where the vocabulary allows fewer different texts than asked, there are fewer."""
    rng = settings.rng(WORLD_STREAM, 1)
    draws = 3 * settings.queries
    category = np.arange(draws) % settings.categories
    asked = np.searchsorted([0.3, 0.8], rng.random(draws), side="right")  # 0, 1 or 2 attributes
    picks = rng.random((draws, catalogue.category_attributes.shape[1])).argsort(axis=1)[:, :2]
    attributes = catalogue.category_attributes[category[:, None], picks]
    attributes = np.where(np.arange(2) < asked[:, None], attributes, -1)
    brand = rng.integers(0, BRANDS, draws)
    brand = np.where(rng.random(draws) < 0.2, brand, -1)
    budget = np.searchsorted([0.25, 0.75], rng.random(draws), side="right") - 1
    text = _texts(catalogue, category, attributes, brand, budget, rng)
    kept = np.sort(np.unique(text.astype(str), return_index=True)[1])[: settings.queries]
    kept = kept[np.argsort(category[kept], kind="stable")]
    vector = rng.standard_normal((len(kept), QUERY_RANK))
    return Queries(
        text=np.concatenate([text[kept], np.array([None], dtype=object)]),
        category=np.append(category[kept], -1),
        attributes=np.vstack([attributes[kept], [[-1, -1]]]),
        brand=np.append(brand[kept], -1),
        budget=np.append(budget[kept], 0),
        vector=np.vstack([vector, np.zeros((1, QUERY_RANK))]),
        popularity=zipf(len(kept), 0.9, rng),
    )


def match(queries: Queries, catalogue: Catalogue, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    """[N] how well items answer queries: category, share of the asked attributes, brand; about unit variance, 0 without a query."""
    asked, has = queries.attributes[query], catalogue.attributes[item]
    overlap = (asked[:, :, None] == has[:, None, :]).any(axis=2).sum(axis=1) / np.maximum(1, (asked >= 0).sum(axis=1))
    same_category = queries.category[query] == catalogue.category[item]
    same_brand = queries.brand[query] == catalogue.brand[item]
    score = (1.2 * same_category + 1.3 * overlap + 1.2 * same_brand - 1.4) / 0.75
    return np.where(query == queries.no_query, 0.0, score)


def _texts(
    catalogue: Catalogue,
    category: np.ndarray,
    attributes: np.ndarray,
    brand: np.ndarray,
    budget: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """[D] texts such as 'cheap kalomi red sneakers', a third of the words in Hangul."""
    hangul = rng.random((len(category), 4)) < 0.35
    which = rng.integers(0, 2, len(category))
    texts = []
    for row in range(len(category)):
        words = []
        if budget[row]:
            words.append(vocabulary.form(vocabulary.BUDGET[int(budget[row])][which[row]], hangul[row, 0]))
        if brand[row] >= 0:
            words.append(catalogue.brand_name[brand[row]])
        words += [
            vocabulary.form(vocabulary.ATTRIBUTES[attribute], hangul[row, 1 + place])
            for place, attribute in enumerate(attributes[row])
            if attribute >= 0
        ]
        texts.append(" ".join([*words, vocabulary.form(vocabulary.NOUNS[category[row]], hangul[row, 3])]))
    return np.array(texts, dtype=object)
