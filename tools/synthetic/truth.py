"""What only the generator knows: Bayes scores, shares of the planted terms, the delay law. No training job reads it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tools.synthetic import behaviour as behaviour_module
from tools.synthetic.behaviour import Behaviour
from tools.synthetic.events import STEP_DELAYS
from tools.synthetic.searches import Lists
from tools.synthetic.settings import POLICY, WEIGHTS

GROUPS = {
    "main": ("attractiveness", "quality", "stock", "price", "position", "match"),
    "query_x_item": ("query_price", "query_item"),
    "customer_x_engagement": ("customer_engagement",),
    "customer_x_understanding": ("customer_understanding",),
    "customer_x_item": ("customer_brand", "customer_item"),
    "third_order": ("third_order",),
}


def truth_table(lists: Lists, behaviour: Behaviour, ids: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per impression: bayes_score (the utility), purchase_probability, outcome, and every planted term."""
    columns = {
        "search_id": ids["search_id"][lists.list_index],
        "item_id": ids["item_id"][lists.item],
        "position": lists.position.astype(np.int32),
        "bayes_score": behaviour.utility,
        "purchase_probability": behaviour.purchase_probability,
        "clicked": behaviour.clicked,
        "carted": behaviour.carted,
        "purchased": behaviour.purchased,
    }
    terms = {f"term_{name}": values.astype(np.float32) for name, values in behaviour.terms.items()}
    return pd.DataFrame({**columns, **terms})


@dataclasses.dataclass
class Shares:
    """Adds up the within-list variance of every planted term over the search lists."""

    squares: dict[str, float] = dataclasses.field(default_factory=dict)
    rows: int = 0

    def add(self, lists: Lists, behaviour: Behaviour) -> None:
        """Adds one day."""
        self.rows += len(lists.item)
        for name, values in {**behaviour.terms, "utility": behaviour.utility}.items():
            mean = np.bincount(lists.list_index, values, minlength=len(lists.size)) / np.maximum(1, lists.size)
            square = float(((values - mean[lists.list_index]) ** 2).sum())
            self.squares[name] = self.squares.get(name, 0.0) + square

    def summary(self) -> dict[str, object]:
        """Within-list variances, and shares (they sum to 1 over terms) by term and by group."""
        variance = {name: total / max(1, self.rows) for name, total in self.squares.items()}
        utility = variance.pop("utility", 0.0)
        total = sum(variance.values()) or 1.0
        share = {name: value / total for name, value in variance.items()}
        groups = {group: sum(share.get(name, 0.0) for name in names) for group, names in GROUPS.items()}
        return {"within_list_variance": variance, "utility_variance": utility, "share": share, "group_share": groups}


def constants() -> dict[str, object]:
    """The planted constants: weights, logging policy, choice model and delay law (milliseconds)."""
    names = [name for name in dir(behaviour_module) if name.isupper() and name != "WEIGHTS" and "STREAM" not in name]
    return {
        "weights": dataclasses.asdict(WEIGHTS),
        "policy": dataclasses.asdict(POLICY),
        "choice": {name.lower(): getattr(behaviour_module, name) for name in names},
        "delay_law": {event: dataclasses.asdict(law) for event, law in STEP_DELAYS.items()},
    }
