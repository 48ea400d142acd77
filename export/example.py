"""Made-up searches that fit a spec: to try a served model at once, and for the parity gate's raw requests."""

from __future__ import annotations

import random
from typing import Any

from cvr.schema import Feature, FeatureSpec
from export.inputs import ITEM_ID, takes_item_id
from export.request import Search, Values


def example_search(spec: FeatureSpec, items: int = 5, seed: int = 0, gaps: float = 0.0) -> Search:
    """A seeded search with `items` candidates; a share `gaps` of the values is missing, and as many are unseen."""
    source = random.Random(seed)
    stored = spec.select(stored=True)
    context = _row([f for f in stored if f.level == "context" and f.history is None], source, gaps)
    ids = [f"item-{source.randrange(1000)}" for _ in range(items)]
    own = [f for f in stored if f.level == "item" and not takes_item_id(f)]
    rows = [{ITEM_ID: item_id, **_row(own, source, gaps)} for item_id in ids]
    histories = [f for f in stored if f.history is not None and source.random() >= gaps]
    return Search(context, rows, {f.name: _events(f, ids, source) for f in histories})


def _row(features: list[Feature], source: random.Random, gaps: float) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for feature in features:
        chance = source.random()
        if chance >= gaps:  # below it: unseen, so the key is left out
            row[feature.name] = None if chance < 2 * gaps else _value(feature, source)
    return row


def _value(feature: Feature, source: random.Random) -> Any:
    if feature.kind == "numerical":
        return round(source.random() if feature.aggregate and feature.aggregate.per else source.lognormvariate(2.0, 1.0), 3)
    if feature.kind == "text":
        return " ".join(source.choice(("red", "blue", "Läufer", "shoes", "2 pack", feature.name)) for _ in range(3))
    options = feature.vocabulary or tuple(f"{feature.name}-{number}" for number in range(9))
    if feature.separator is not None:
        return feature.separator.join(source.sample(options, k=min(2, len(options))))
    return source.choice(options)


def _events(feature: Feature, ids: list[str], source: random.Random) -> list[Values]:
    """Up to two events more than the history holds, about every second on an item of the search."""
    assert feature.history is not None
    age, events = 0.0, list[Values]()
    for _ in range(source.randrange(min(feature.history.length, 6) + 2)):
        age += round(source.expovariate(1 / 600.0), 1)
        item = source.choice(ids) if source.random() < 0.5 else f"item-{source.randrange(1000)}"
        events.append({ITEM_ID: item, "action": source.choice(feature.history.events), "age": round(age, 1)})
    return events
