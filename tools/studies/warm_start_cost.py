"""What training costs with and without warm starts (paper 4.5).

    cost of a run  C = 3 epochs (F_item items + F_list lists)    FLOPs, backward counted as two forward passes
    cold overhead    = C_scratch / C_recent - 1                  every launch trains on everything
    warm overhead    = (C_base / m + C_warm) / C_recent - 1      one base for m launches, each fine-tunes it

both against training on the recent days only, which the paper does not say it means.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

PAPER_COLD, PAPER_WARM = 2.64, 0.36
"""The paper's overheads, +264 % and +36 %; it states neither its m nor its baseline."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """Cost of one run of each kind, in any unit."""

    base: float
    scratch: float
    warm: float
    recent: float

    @property
    def cold_overhead(self) -> float:
        """C_scratch / C_recent - 1."""
        return self.scratch / self.recent - 1

    def warm_overhead(self, launches: int) -> float:
        """(C_base / m + C_warm) / C_recent - 1."""
        return (self.base / launches + self.warm) / self.recent - 1

    @property
    def break_even(self) -> float:
        """Launches from which warm costs less than cold: m > C_base / (C_scratch - C_warm)."""
        return self.base / (self.scratch - self.warm)


def flops(run: Mapping[str, Any]) -> float:
    """FLOPs of a training, from its `run.json`."""
    once = run["flops_per_item"] * run["items"] + run["flops_per_list"] * run["lists"]
    return 3.0 * run["epochs_done"] * once


def item_epochs(run: Mapping[str, Any]) -> float:
    """Items times epochs."""
    return float(run["items"] * run["epochs_done"])


def describe(name: str, costs: Costs, launches: Sequence[int]) -> str:
    """The formula with numbers, a line per m."""
    lines = [
        f"{name}: base {costs.base:.4g}, scratch {costs.scratch:.4g}, warm {costs.warm:.4g}, recent {costs.recent:.4g}",
        f"  cold: {costs.scratch:.4g} / {costs.recent:.4g} - 1 = {costs.cold_overhead:+.0%}  (the paper's own: {PAPER_COLD:+.0%})",
    ]
    for m in launches:
        formula = f"({costs.base:.4g} / {m} + {costs.warm:.4g}) / {costs.recent:.4g} - 1"
        lines.append(f"  warm, m = {m}: {formula} = {costs.warm_overhead(m):+.0%}  (the paper's own, m not stated: {PAPER_WARM:+.0%})")
    return "\n".join([*lines, f"  warm is the cheaper one for m > {costs.break_even:.2f}"])
