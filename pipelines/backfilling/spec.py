"""Which specs a backfill accepts beside that of the lists, and the spec of the asked features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from cvr.errors import CvrError
from cvr.schema import Feature, FeatureSpec
from pipelines.beam_flags import suggest

MODEL_SIDE = {"embedding", "table", "transforms", "encoder"}
"""Keys of a feature that records know nothing of; `FeatureSpec.fingerprint` leaves them out too."""


def check_features(spec: FeatureSpec, features: Sequence[str], name: str) -> None:
    """Raises CvrError for features that the spec does not have or that no record holds."""
    if not features:
        raise CvrError("--features: name one feature or more, such as --features=price,title")
    stored = [feature.name for feature in spec.select(stored=True)]
    for feature in features:
        if feature not in spec.features:
            hint = suggest(feature, stored) or f"; it has {', '.join(stored)}"
            raise CvrError(f"--features: {name} has no feature {feature!r}{hint}")
        if feature not in stored:
            message = f"--features: {feature} is derived in the model's graph and never stored, so there is nothing to backfill"
            raise CvrError(f"{message}; backfill the features that it is derived from")
    if len(set(features)) < len(features):
        raise CvrError(f"--features={','.join(features)}: a feature is named twice")


def check_spec(old: FeatureSpec, new: FeatureSpec, asked: Sequence[str], source: str) -> None:
    """Raises CvrError where a new spec is more than the old one's stored features, in any order, and the asked ones.

    Of the asked features `introduced_on` may differ, of all features what belongs to the model.
    """
    _same("dataset", old.dataset, new.dataset, source)
    _same("tasks", {k: t.model_dump() for k, t in old.tasks.items()}, {k: t.model_dump() for k, t in new.tasks.items()}, source)
    if list(old.tasks) != list(new.tasks):
        raise CvrError(f"{source}: tasks: the order differs from that of the lists, {', '.join(old.tasks)}")
    have = {feature.name: feature for feature in new.select(stored=True)}
    for feature in old.select(stored=True):
        if feature.name not in have:
            raise CvrError(f"{source}: features.{feature.name} is missing; a backfill keeps every stored feature of the lists")
        moves = feature.name in asked
        left, right = (_stored_side(side, moves) for side in (feature, have.pop(feature.name)))
        for key in left:
            _same(f"features.{feature.name}.{key}", left[key], right[key], source)
    extra = sorted(set(have) - set(asked))
    if extra:
        raise CvrError(f"{source}: features.{extra[0]} is new, so it has to be asked for: --features=...,{','.join(extra)}")


def _stored_side(feature: Feature, moves: bool) -> dict[str, Any]:
    return feature.model_dump(mode="json", exclude=MODEL_SIDE | ({"introduced_on"} if moves else set()))


def _same(where: str, old: Any, new: Any, source: str) -> None:
    if old != new:
        raise CvrError(
            f"{source}: {where} is {new!r}, and {old!r} in the lists' spec; a backfill adds features and changes none: "
            "build the lists anew for that"
        )


def features_spec(text: str, names: Sequence[str]) -> str:
    """The spec of the asked features alone, which no list is too young and no day too early for, as YAML."""
    content = yaml.safe_load(text)
    features = {name: dict(content["features"][name]) for name in names}
    for feature in features.values():
        feature.pop("introduced_on", None)
    tasks = {name: {**task, "censor": False} for name, task in content["tasks"].items()}
    return yaml.safe_dump({**content, "tasks": tasks, "features": features}, sort_keys=False, allow_unicode=True)
