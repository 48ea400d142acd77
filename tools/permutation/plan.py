"""What is shuffled: features, families, and pairs of either, as sets of features that are scored once however often they are needed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from cvr.errors import CvrError
from cvr.schema import FeatureSpec
from tools.permutation.families import Families
from tools.permutation.shuffles import KINDS, moved

Cell = tuple[str, frozenset[str]]
"""A kind of shuffle and the features that it moves."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two features or families, and the features of each."""

    names: tuple[str, str]
    left: tuple[str, ...]
    right: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Names with their features for the first order, pairs for the second; `table2` has a pair per category."""

    spec: FeatureSpec
    features: dict[str, tuple[str, ...]]
    families: dict[str, tuple[str, ...]]
    pairs: tuple[Pair, ...]
    table2: tuple[Pair, ...]

    def cell(self, kind: str, names: Sequence[str]) -> Cell:
        """What shuffling these features together moves."""
        return kind, moved(self.spec, names, kind)

    def measured(self, kind: str, pair: Pair) -> bool:
        """Whether the kind moves something of both; otherwise there is no second order to speak of."""
        return all(moved(self.spec, side, kind) for side in (pair.left, pair.right))

    def cells(self) -> list[Cell]:
        """All that has to be scored, each once; without those that move nothing, whose importance is 0."""
        wanted = []
        for kind in KINDS:
            single = [*self.features.values(), *self.families.values()]
            wanted += [self.cell(kind, names) for names in single]
            for pair in (*self.pairs, *self.table2):
                if self.measured(kind, pair):
                    wanted += [self.cell(kind, names) for names in (pair.left, pair.right, (*pair.left, *pair.right))]
        return [cell for cell in dict.fromkeys(wanted) if cell[1]]


def make_plan(spec: FeatureSpec, families: Families, pairs: Sequence[str]) -> Plan:
    """All features, all families, all pairs of families, and the further pairs `a:b`. Raises CvrError for an unknown or impossible pair."""
    names = {**{name: (name,) for name in spec.features}, **families.members}
    found = [tuple(pair) for pair in itertools.combinations(families.members, 2)]
    found += [_pair(names, text) for text in pairs]
    made = tuple(Pair((a, b), names[a], names[b]) for a, b in dict.fromkeys(found))
    anchor = families.anchor
    table2 = () if anchor is None else tuple(
        Pair((anchor, name), families.members[anchor], families.category(name)) for name in families.categories
    )  # fmt: skip
    return Plan(spec, {name: (name,) for name in spec.features}, families.members, made, table2)


def _pair(names: dict[str, tuple[str, ...]], text: str) -> tuple[str, str]:
    left, _, right = text.partition(":")
    for name in (left, right):
        if name not in names:
            example = ":".join([*names][:2])
            raise CvrError(f"--pairs: {text!r}: there is no feature or family {name!r}; give <name>:<name>, such as {example}")
    common = set(names[left]) & set(names[right])
    if common:
        raise CvrError(f"--pairs: {text!r}: {min(common)} is in both")
    return left, right
