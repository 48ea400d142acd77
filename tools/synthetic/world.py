"""The static world: items, queries and customers, drawn once from the seed."""

from __future__ import annotations

import dataclasses

from tools.synthetic.catalogue import Catalogue, build_catalogue
from tools.synthetic.customers import Customers, build_customers
from tools.synthetic.queries import Queries, build_queries
from tools.synthetic.settings import Settings


@dataclasses.dataclass(frozen=True)
class World:
    """What exists before the first day."""

    catalogue: Catalogue
    queries: Queries
    customers: Customers


def build_world(settings: Settings) -> World:
    """Draws items, queries and customers; nothing here depends on the number of days."""
    catalogue = build_catalogue(settings)
    queries = build_queries(settings, catalogue)
    return World(catalogue, queries, build_customers(settings, queries))
