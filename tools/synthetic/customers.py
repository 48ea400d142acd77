"""Customers: how often they come, what they look for, which brands, prices and crowds they follow."""

from __future__ import annotations

import dataclasses

import numpy as np

from tools.synthetic.catalogue import BRANDS
from tools.synthetic.queries import Queries
from tools.synthetic.settings import WORLD_STREAM, Settings

NEEDS = 4
SEGMENTS = 8
FAVOURITE_BRANDS = 2


@dataclasses.dataclass(frozen=True)
class Customers:
    """`U` customers; the three traits are signs of the segment plus noise, so the logged segment shows most of them."""

    activity: np.ndarray  # [U] sums to 1
    segment: np.ndarray  # [U] int 0..7
    herding: np.ndarray  # [U] weight on what others like (meets engagement)
    precision: np.ndarray  # [U] weight on a good match (meets understanding)
    thrift: np.ndarray  # [U] how literally budget words are meant (third order)
    brand_taste: np.ndarray  # [U, BRANDS], high for a few favourite brands; mean 0 and variance 1 over brands
    interest: np.ndarray  # [U, C] shares over categories
    needs: np.ndarray  # [U, NEEDS] queries asked again and again

    @property
    def customer_id(self) -> np.ndarray:
        """[U] str ids as they stand in the logs."""
        return np.char.mod("c%06d", np.arange(len(self.activity))).astype(object)


def build_customers(settings: Settings, queries: Queries) -> Customers:
    """Draws the customers."""
    rng = settings.rng(WORLD_STREAM, 2)
    count = settings.customers
    activity = rng.gamma(1.5, 1.0, count) + 0.05
    segment = rng.integers(0, SEGMENTS, count)
    signs = 2.0 * ((segment[:, None] >> np.arange(3)) & 1) - 1.0
    traits = 0.95 * signs + 0.3 * rng.standard_normal((count, 3))
    interest = rng.gamma(0.25, 1.0, (count, settings.categories)) + 1e-6
    interest /= interest.sum(axis=1, keepdims=True)
    customer = np.repeat(np.arange(count), NEEDS)
    category = draw_rows(interest, customer, rng)
    return Customers(
        activity=activity / activity.sum(),
        segment=segment,
        herding=traits[:, 0],
        precision=traits[:, 1],
        thrift=traits[:, 2],
        brand_taste=_favourites(count, rng),
        interest=interest,
        needs=draw_in_category(queries.category[:-1], queries.popularity, category, rng).reshape(count, NEEDS),
    )


def _favourites(count: int, rng: np.random.Generator) -> np.ndarray:
    """[U, BRANDS] standardised indicator of FAVOURITE_BRANDS brands per customer."""
    chosen = rng.random((count, BRANDS)).argsort(axis=1) < FAVOURITE_BRANDS
    share = FAVOURITE_BRANDS / BRANDS
    return (chosen - share) / np.sqrt(share * (1.0 - share))


def draw_rows(shares: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N] a column of `shares[rows]` for each row, drawn by its shares."""
    cumulative = np.cumsum(shares, axis=1)
    draws = rng.random(len(rows)) * cumulative[rows, -1]
    return np.minimum((cumulative[rows] < draws[:, None]).sum(axis=1), shares.shape[1] - 1)


def draw_in_category(
    member_category: np.ndarray, weight: np.ndarray, category: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """[N] members (rows sorted by category) drawn by weight, each inside the wanted category; -1 means from all."""
    cumulative = np.concatenate([[0.0], np.cumsum(weight)])
    low = np.where(category < 0, 0, np.searchsorted(member_category, category, side="left"))
    high = np.where(category < 0, len(weight), np.searchsorted(member_category, category, side="right"))
    draws = cumulative[low] + rng.random(len(category)) * (cumulative[high] - cumulative[low])
    found = np.searchsorted(cumulative, draws, side="right") - 1
    return np.clip(found, low, np.maximum(low, high - 1))


def pair_normal(first: np.ndarray, second: np.ndarray, salt: int) -> np.ndarray:
    """[N] a fixed N(0, 1) number for every pair of ids (splitmix64 hashes, Box-Muller)."""
    with np.errstate(over="ignore"):
        key = first.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + second.astype(np.uint64)
        key = _mix(key + np.uint64(salt) * np.uint64(0xD1B54A32D192ED03))
        other = _mix(key + np.uint64(0x9E3779B97F4A7C15))
    radius = np.sqrt(-2.0 * np.log(((key >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53))
    return radius * np.cos(2.0 * np.pi * (other >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(key: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
