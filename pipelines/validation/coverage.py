"""How many values of each feature are there, day by day: launches, features that vanish, sudden falls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from cvr.schema import Feature
from pipelines.validation.merging import Partial
from pipelines.validation.results import Check, Figures, Thresholds, judged

AREA = "coverage"
_SIGMAS = 4.0


def present_share(counts: dict[str, int]) -> float:
    """Share of values that are there, known or not; 0 without any."""
    total = sum(counts.values())
    return (counts["present"] + counts["unknown"]) / total if total else 0.0


def unseen_share(counts: dict[str, int]) -> float:
    """Share of values that are unseen; 0 without any."""
    total = sum(counts.values())
    return counts["unseen"] / total if total else 0.0


def launches(figures: Figures) -> list[dict[str, str]]:
    """Steps of features between unseen and there: {split, feature, day, step} with step `launched` or `withdrawn`."""
    found = []
    for split in figures.splits:
        for (_, before), (day, after) in pairwise(figures.read_days(split).items()):
            for name, counts in after["coverage"].items():
                was, now = unseen_share(before["coverage"][name]), unseen_share(counts)
                if (was > 0.5) != (now > 0.5):
                    found.append(
                        {"split": split, "feature": name, "day": day, "step": "withdrawn" if now > was else "launched"}
                    )
    return found


def coverage_checks(figures: Figures, thresholds: Thresholds) -> list[Check]:
    """Falls from day to day and from training to the other splits, features without a value, and unseen ones that should be there."""
    steps = launches(figures)
    told = [f"{s['feature']}: {s['step']} on {s['day']} ({s['split']})" for s in steps if s["step"] == "launched"]
    good = "; launched: ".join(["no fall", *([", ".join(told[:5])] if told else [])])
    falls = [text for split in figures.splits for text in _day_falls(figures, split, thresholds)]
    return [
        judged(AREA, "coverage does not fall from day to day", falls, good, "warn", f"{len(falls)} falls"),
        judged(
            AREA, "coverage of training holds in the other splits", _split_falls(figures, thresholds), "no fall", "warn"
        ),
        judged(AREA, "every feature has values in training", _dead(figures), "all have", "warn"),
        judged(AREA, "features are unseen only before they are introduced", _unexplained(figures), "none else", "warn"),
    ]


def _falls(before: Partial, after: Partial, thresholds: Thresholds) -> Iterator[tuple[str, float, float]]:
    """Features whose share of present values falls by more than the threshold or to less than half, beyond chance.

    Chance is `_SIGMAS` standard errors of the difference of two shares of lists.
    """
    lists = min(before["lists"], after["lists"])
    for name, counts in after["coverage"].items():
        was, now = present_share(before["coverage"][name]), present_share(counts)
        error = math.sqrt((was * (1 - was) + now * (1 - now) + 1 / lists) / lists)
        if was - now > _SIGMAS * error and (was - now > thresholds.coverage_drop or now < was / 2):
            yield name, was, now


def _day_falls(figures: Figures, split: str, thresholds: Thresholds) -> list[str]:
    days = pairwise(figures.read_days(split).items())
    return [
        f"{name}: {was:.1%} on {first}, {now:.1%} on {second} ({split})"
        for (first, before), (second, after) in days
        for name, was, now in _falls(before, after, thresholds)
    ]


def _split_falls(figures: Figures, thresholds: Thresholds) -> list[str]:
    """Falls from the training split's last day to each other split."""
    days = list(figures.read_days("train").values())
    others = [split for split in figures.splits if split != "train"]
    return [
        f"{name}: {was:.1%} on the last training day, {now:.1%} in {split}"
        for split in others
        if days
        for name, was, now in _falls(days[-1], figures.whole(split), thresholds)
    ]


def _dead(figures: Figures) -> list[str]:
    if "train" not in figures.splits:
        return []
    coverage = figures.whole("train")["coverage"]
    return [
        f"{name}: {counts['missing']:,} missing, {counts['unseen']:,} unseen"
        for name, counts in coverage.items()
        if not present_share(counts)
    ]


def _unexplained(figures: Figures) -> list[str]:
    found = []
    for feature in figures.spec.select(stored=True):
        for split in figures.splits:
            for day, partial in figures.read_days(split).items():
                counts = partial["coverage"][feature.name]
                if counts["unseen"] and not _early(feature, day):
                    since = (
                        f"although introduced on {feature.introduced_on}"
                        if feature.introduced_on
                        else "without introduced_on in the spec"
                    )
                    found.append(f"{feature.name}: unseen in {unseen_share(counts):.0%} of {day} ({split}), {since}")
    return found


def _early(feature: Feature, day: str) -> bool:
    return feature.introduced_on is not None and day < feature.introduced_on.isoformat()
