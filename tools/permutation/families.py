"""Families of features, as in the paper's section 4 (query-item engagement, customer history, ...): by the spec, or by a YAML file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from cvr.errors import CvrError
from cvr.schema import Feature, FeatureSpec

HISTORY = "customer history"
UNDERSTANDING = "query-item understanding"
CATEGORIES = {
    "engagement": ("query-item engagement", "query engagement", "item engagement"),
    "understanding": (UNDERSTANDING, "raw query", "raw item text"),
}
"""The paper's Table 2 and the families that make each category by default."""
_FORM = "give `families: {<name>: [<feature>, ..]}` and, or not, `shares: {with: <family>, of: {<category>: [<family>, ..]}}`"


@dataclasses.dataclass(frozen=True)
class Families:
    """Features by family, and for Table 2 the family `anchor` whose second order is shared among categories of other families."""

    members: dict[str, tuple[str, ...]]
    anchor: str | None
    categories: dict[str, tuple[str, ...]]

    def category(self, name: str) -> tuple[str, ...]:
        """The features of a category."""
        return tuple(feature for family in self.categories[name] for feature in self.members[family])


def default_family(spec: FeatureSpec, feature: Feature) -> str:
    """The family of a feature by its source, level and kind.

    An aggregate belongs to the engagement of its keys, a history and what is derived from one to the customer's history, a comparison of
    item and context to query-item understanding, any other derived feature to the family of what it is derived from.
    """
    derive = feature.derive
    if feature.aggregate is not None:
        return "-".join(key for key in ("query", "customer", "item") if key in feature.aggregate.by) + " engagement"
    if feature.history is not None or (derive is not None and derive.history is not None):
        return HISTORY
    if derive is not None and derive.op == "same_as_context":
        return UNDERSTANDING
    if derive is not None:
        return "search context" if derive.feature is None else default_family(spec, spec.features[derive.feature])
    if feature.level == "context":
        return "raw query" if feature.kind == "text" or feature.column == "impression.query" else "search context"
    named = {"impression.position": "display position", "impression.item_id": "item id"}
    return named.get(feature.column or "", "raw item text" if feature.kind == "text" else "item attributes")


def make_families(spec: FeatureSpec, path: str | None = None) -> Families:
    """The spec's families; a file may name others and what Table 2 is made of. Features that it leaves out keep their family.

    Raises CvrError naming the file and what in it is unknown, given twice or of another form.
    """
    content = _read(path) if path else {}
    given = _given(spec, path, content.get("families", {}))
    families = {name: given.get(name, default_family(spec, feature)) for name, feature in spec.features.items()}
    members = {family: tuple(n for n, f in families.items() if f == family) for family in dict.fromkeys(families.values())}
    clash = [family for family in members if family in spec.features]
    if clash:
        raise CvrError(f"--families={path}: {clash[0]!r} is the name of a feature; give the family another one")
    if "shares" in content:
        return Families(members, *_shares(members, path, content["shares"]))
    categories = {name: tuple(f for f in wanted if f in members) for name, wanted in CATEGORIES.items()}
    whole = HISTORY in members and all(categories.values())
    return Families(members, HISTORY if whole else None, categories if whole else {})


def _read(path: str) -> dict[str, Any]:
    file = Path(path)
    if not file.is_file():
        raise CvrError(f"no file at --families={path}; {_FORM}")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CvrError(f"--families={path} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not set(content) <= {"families", "shares"}:
        raise CvrError(f"--families={path}: {_FORM}")
    return content


def _lists(path: str | None, content: Any) -> dict[str, list[str]]:
    """A mapping of names to lists of names."""
    right = isinstance(content, dict) and all(isinstance(values, list) and values for values in content.values())
    if not right or not all(isinstance(name, str) for names in (content, *content.values()) for name in names):
        raise CvrError(f"--families={path}: {_FORM}")
    return content


def _given(spec: FeatureSpec, path: str | None, content: Any) -> dict[str, str]:
    """Family of each feature that the file names."""
    found: dict[str, str] = {}
    for family, names in _lists(path, content).items():
        for name in names:
            if name not in spec.features:
                raise CvrError(f"--families={path}: family {family!r}: the run's spec has no feature {name!r}")
            if name in found:
                raise CvrError(f"--families={path}: feature {name!r} is in the families {found[name]!r} and {family!r}")
            found[name] = family
    return found


def _shares(members: dict[str, tuple[str, ...]], path: str | None, content: Any) -> tuple[str, dict[str, tuple[str, ...]]]:
    if not isinstance(content, dict) or set(content) != {"with", "of"}:
        raise CvrError(f"--families={path}: {_FORM}")
    categories = _lists(path, content["of"])
    used = [content["with"], *(family for names in categories.values() for family in names)]
    for family in used:
        if family not in members:
            raise CvrError(f"--families={path}: shares: there is no family {family!r}; there are {', '.join(members)}")
        if used.count(family) > 1:
            raise CvrError(f"--families={path}: shares: family {family!r} stands there twice")
    return content["with"], {name: tuple(names) for name, names in categories.items()}
