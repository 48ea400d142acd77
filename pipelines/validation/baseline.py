"""What changed against another published folder, such as yesterday's build."""

from __future__ import annotations

from typing import Any

from pipelines.validation.coverage import present_share
from pipelines.validation.drift import Drift, between, design_effects, drift_checks
from pipelines.validation.results import Check, Figures, Thresholds, judged

AREA = "baseline"


def baseline_drift(figures: Figures, other: Figures, min_lists: int) -> dict[str, list[Drift]]:
    """Drift of each split that both have, over the features that both have, from the baseline to the lists."""
    found: dict[str, list[Drift]] = {}
    for split in figures.splits:
        if split in other.splits:
            pair = {"baseline": other.whole(split), "now": figures.whole(split)}
            effects = [design_effects(each.halves(split)) for each in (other, figures)]
            found[split] = between(pair, "baseline", effects, min_lists)
    return found


def baseline_checks(
    figures: Figures, other: Figures, drift: dict[str, list[Drift]], thresholds: Thresholds
) -> list[Check]:
    """Changes of spec, splits, counts, label rates and coverage, and drift."""
    changed = [
        text
        for split in figures.splits
        if split in other.splits
        for text in _changes(figures, other, split, thresholds)
    ]
    falls = [
        text for split in figures.splits if split in other.splits for text in _falls(figures, other, split, thresholds)
    ]
    return [
        judged(AREA, "the spec stores the same", _spec_changes(figures, other), "the same", "warn"),
        judged(AREA, "there are the same splits", _split_changes(figures, other), ", ".join(figures.splits), "warn"),
        judged(
            AREA, "counts and label rates change little", changed, f"none by more than {thresholds.change:.0%}", "warn"
        ),
        judged(AREA, "coverage does not fall", falls, "no fall", "warn"),
        *drift_checks(drift, thresholds, AREA),
    ]


def _spec_changes(figures: Figures, other: Figures) -> list[str]:
    mine, theirs = ({f.name for f in each.spec.select(stored=True)} for each in (figures, other))
    found = [f"new feature {name}" for name in sorted(mine - theirs)] + [
        f"feature {name} is gone" for name in sorted(theirs - mine)
    ]
    if figures.spec.task_names != other.spec.task_names:
        found.append(f"tasks were {', '.join(other.spec.task_names)}, now {', '.join(figures.spec.task_names)}")
    if not found and figures.spec.fingerprint != other.spec.fingerprint:
        found.append("a task's or feature's definition changed")
    return found


def _split_changes(figures: Figures, other: Figures) -> list[str]:
    return [f"{name} is new" for name in figures.splits if name not in other.splits] + [
        f"{name} is gone" for name in other.splits if name not in figures.splits
    ]


def volumes(figures: Figures, split: str) -> dict[str, float]:
    """Lists, items and days of a split, and labels per item of each task."""
    whole = figures.whole(split)
    found: dict[str, float] = {"lists": whole["lists"], "items": whole["items"], "days": len(figures.read_days(split))}
    return found | {f"{task} labels per item": count / whole["items"] for task, count in whole["labels"].items()}


def _changes(figures: Figures, other: Figures, split: str, thresholds: Thresholds) -> list[str]:
    now, before = volumes(figures, split), volumes(other, split)
    return [
        f"{split} {name}: {before[name]:.6g} before, {value:.6g} now"
        for name, value in now.items()
        if name in before
        and not 1 / (1 + thresholds.change) <= (value + 1e-12) / (before[name] + 1e-12) <= 1 + thresholds.change
    ]


def _falls(figures: Figures, other: Figures, split: str, thresholds: Thresholds) -> list[str]:
    before, now = other.whole(split)["coverage"], figures.whole(split)["coverage"]
    found: list[str] = []
    for name in before.keys() & now.keys():
        was, has = present_share(before[name]), present_share(now[name])
        if was - has > thresholds.coverage_drop:
            found.append(f"{split} {name}: {was:.1%} before, {has:.1%} now")
    return sorted(found)


def compared(figures: Figures, other: Figures) -> dict[str, Any]:
    """Both folders' volumes by split, for validation.json."""
    return {
        split: {"before": volumes(other, split) if split in other.splits else None, "now": volumes(figures, split)}
        for split in figures.splits
    }
