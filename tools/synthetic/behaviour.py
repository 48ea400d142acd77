"""What customers do with a list: the planted utility, the choice, and the click -> cart -> purchase chain.

A customer buys the item with the largest `utility + Gumbel noise`, or nothing when the outside option wins, so
P(purchase of i) = exp(u_i) / (exp(u_outside) + sum_j exp(u_j)) and the Bayes-optimal ranking of a list is by its utility.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tools.synthetic.catalogue import ItemDay
from tools.synthetic.customers import pair_normal
from tools.synthetic.searches import Lists
from tools.synthetic.settings import BEHAVIOUR_STREAM, WEIGHTS, Settings, Weights, feed_weights
from tools.synthetic.world import World

OUTSIDE_MEAN, OUTSIDE_SPREAD = 3.0, 1.0
SECOND_PURCHASE_SHARE = 0.04
EXAMINATION = 0.35
CLICK_INTERCEPT, CLICK_SLOPE = -2.2, 1.0
CART_INTERCEPT, CART_SLOPE = -2.2, 0.6


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """The outcome of `N` shown items; utility and probability are the truth, the rest is what the log shows."""

    terms: dict[str, np.ndarray]  # weighted parts of the utility, each [N]
    utility: np.ndarray  # [N] their sum, the Bayes-optimal ranking score
    purchase_probability: np.ndarray  # [N] given everything but the Gumbel noise
    clicked: np.ndarray  # [N] bool
    carted: np.ndarray  # [N] bool, implies clicked
    purchased: np.ndarray  # [N] bool, implies carted


def utility_terms(world: World, today: ItemDay, lists: Lists, weights: Weights = WEIGHTS) -> dict[str, np.ndarray]:
    """The planted parts of the utility, already multiplied by the weights, each [N]."""
    item, query = lists.item, lists.query[lists.list_index]
    customer = lists.customer[lists.list_index]
    catalogue, queries, customers = world.catalogue, world.queries, world.customers
    attractiveness, price = today.attractiveness[item], today.price_rank[item]
    parts = {
        "attractiveness": attractiveness,
        "quality": catalogue.quality[item],
        "stock": today.in_stock[item] - 1.0,
        "price": -price,
        "position": -np.log(lists.position),
        "match": lists.match,
        "query_price": queries.budget[query] * price,
        "query_item": (queries.vector[query] * catalogue.query_vector[item]).sum(axis=1),
        "customer_engagement": customers.herding[customer] * attractiveness,
        "customer_understanding": customers.precision[customer] * lists.match,
        "customer_brand": customers.brand_taste[customer, catalogue.brand[item]],
        "customer_item": pair_normal(customer, item, salt=3),
        "third_order": customers.thrift[customer] * queries.budget[query] * price,
    }
    return {name: getattr(weights, name) * part for name, part in parts.items()}


def behave(settings: Settings, world: World, today: ItemDay, lists: Lists, day: int, feed: bool) -> Behaviour:
    """Draws clicks, carts and purchases for one day's lists."""
    rng = settings.rng(BEHAVIOUR_STREAM, day, int(feed))
    terms = utility_terms(world, today, lists, feed_weights(settings.feed_conflict) if feed else WEIGHTS)
    utility = np.sum(list(terms.values()), axis=0)
    outside = OUTSIDE_MEAN + OUTSIDE_SPREAD * rng.standard_normal(len(lists.size))
    purchased, probability = _choose(utility, outside, lists, rng)
    appeal = utility - terms["position"]
    examined = lists.position**-EXAMINATION
    clicked = rng.random(len(utility)) < examined * _sigmoid(CLICK_INTERCEPT + CLICK_SLOPE * appeal)
    clicked |= purchased
    carted = clicked & (rng.random(len(utility)) < _sigmoid(CART_INTERCEPT + CART_SLOPE * appeal))
    return Behaviour(terms, utility, probability, clicked, carted | purchased, purchased)


def _choose(
    utility: np.ndarray, outside: np.ndarray, lists: Lists, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(purchased [N], probability [N]): the best by Gumbel noise, and in a few lists also the second best item."""
    noisy = utility + rng.gumbel(size=len(utility))
    order = np.lexsort((-noisy, lists.list_index))
    shown = lists.size > 0
    best = order[lists.starts[shown]]
    noisy_outside = (outside + rng.gumbel(size=len(outside)))[shown]
    buys = noisy[best] > noisy_outside
    twice = buys & (lists.size[shown] > 1) & (rng.random(len(best)) < SECOND_PURCHASE_SHARE)
    purchased = np.zeros(len(utility), dtype=bool)
    purchased[best[buys]] = True
    purchased[order[lists.starts[shown][twice] + 1]] = True
    weight = np.exp(utility)
    total = np.bincount(lists.list_index, weight, minlength=len(outside))
    first = weight / (total + np.exp(outside))[lists.list_index]
    rest = np.maximum(total[lists.list_index] - weight, 1e-300)
    odds = np.where(lists.size[lists.list_index] > 1, first / rest, 0.0)
    second = weight * (np.bincount(lists.list_index, odds, minlength=len(outside))[lists.list_index] - odds)
    return purchased, first + SECOND_PURCHASE_SHARE * second


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-values))
