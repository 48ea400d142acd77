"""A plan's effects out of the scored cells, as rows: features and families alone, and pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.comparison.statistics import Resampling
from tools.permutation.effects import Effect, Share, corrected, estimate, shares
from tools.permutation.measure import Store
from tools.permutation.plan import Cell, Pair, Plan
from tools.permutation.shuffles import KINDS


@dataclasses.dataclass(frozen=True)
class Single:
    """First order: what shuffling a feature or family costs, by kind of shuffle; None where the kind moves nothing."""

    name: str
    members: tuple[str, ...]
    effects: dict[str, Effect | None]

    @property
    def greatest(self) -> float:
        """The greater of its importances."""
        return max(effect.value if effect else 0.0 for effect in self.effects.values())


@dataclasses.dataclass(frozen=True)
class Double:
    """Second order of a pair under a kind of shuffle: `joint` I2(a, b), `interaction` I(a) + I(b) - I2(a, b), and their shares."""

    kind: str
    names: tuple[str, str]
    joint: Effect
    interaction: Effect
    joint_share: Share | None = None
    interaction_share: Share | None = None


class Results:
    """Everything that is reported, from the store of `runs` runs."""

    def __init__(self, plan: Plan, store: Store, runs: int, how: Resampling) -> None:
        self._plan, self._store, self._runs, self._how = plan, store, runs, how
        bases = np.stack([store.read(run, None) for run in range(runs)])
        self.base = estimate(np.repeat(bases[:, None], 2, axis=1), how)
        self.features = self._singles(plan.features)
        self.families = self._singles(plan.families)
        self.pairs = self._doubles(plan.pairs)
        self.table2 = self._table2()

    def _drops(self, cell: Cell) -> np.ndarray:
        """`[S, R, Q]`."""
        return self._store.drops(self._runs, cell)

    def _singles(self, names: Mapping[str, tuple[str, ...]]) -> list[Single]:
        """Effects of each, corrected within each kind of shuffle; the greatest first."""
        found: dict[str, dict[str, Effect]] = {}
        for kind in KINDS:
            cells = {name: self._plan.cell(kind, members) for name, members in names.items()}
            effects = {name: estimate(self._drops(cell), self._how) for name, cell in cells.items() if cell[1]}
            found[kind] = dict(zip(effects, corrected(list(effects.values())), strict=True))
        rows = [Single(name, members, {kind: found[kind].get(name) for kind in KINDS}) for name, members in names.items()]
        return sorted(rows, key=lambda row: -row.greatest)

    def _second(self, kind: str, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Values `[S, R, Q]` of I2 and of I(a) + I(b) - I2: the permutations of all three are the same."""
        joint = self._drops(self._plan.cell(kind, (*pair.left, *pair.right)))
        left, right = (self._drops(self._plan.cell(kind, side)) for side in (pair.left, pair.right))
        return joint, left + right - joint

    def _doubles(self, pairs: Sequence[Pair]) -> list[Double]:
        rows: list[Double] = []
        for kind in KINDS:
            own = [pair for pair in pairs if self._plan.measured(kind, pair)]
            effects = [[estimate(values, self._how) for values in self._second(kind, pair)] for pair in own]
            joint, interaction = (corrected([effect[part] for effect in effects]) for part in (0, 1))
            rows += [Double(kind, pair.names, one, other) for pair, one, other in zip(own, joint, interaction, strict=True)]
        return rows

    def _table2(self) -> list[Double]:
        """The anchor with each category, and each category's shares of both measures."""
        rows: list[Double] = []
        pairs = self._plan.table2
        doubles = self._doubles(pairs)
        for kind in KINDS:
            own = [double for double in doubles if double.kind == kind]
            if not own or len(own) < len(pairs):
                continue
            found = [shares(parts, self._how) for parts in zip(*(self._second(kind, pair) for pair in pairs), strict=True)]
            for double, joint, interaction in zip(own, *found, strict=True):
                rows.append(dataclasses.replace(double, joint_share=joint, interaction_share=interaction))
        return rows

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        base = self.base.value

        def single(row: Single) -> dict[str, Any]:
            effects = {kind: None if effect is None else effect.as_json(base) for kind, effect in row.effects.items()}
            return {"name": row.name, "features": list(row.members), **effects}

        def double(row: Double) -> dict[str, Any]:
            found = {"shuffle": row.kind, "names": list(row.names), "joint": row.joint.as_json(base)}
            found["interaction"] = row.interaction.as_json(base)
            both = {"joint_share": row.joint_share, "interaction_share": row.interaction_share}
            return {**found, **{name: dataclasses.asdict(share) for name, share in both.items() if share is not None}}

        return {
            "base": self.base.as_json(base),
            "features": [single(row) for row in self.features],
            "families": [single(row) for row in self.families],
            "pairs": [double(row) for row in self.pairs],
            "table2": [double(row) for row in self.table2],
        }
