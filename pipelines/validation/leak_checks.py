"""Judges the leak detector's figures: which stored feature alone orders lists so well that it must know the label."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pipelines.validation.intervals import wilson
from pipelines.validation.merging import Partial
from pipelines.validation.results import Check, Figures, Thresholds, judged

AREA = "leaks"
_SAYS = {
    "highest": "highest first",
    "lowest": "lowest first",
    "absent": "items without a value first",
    "present": "items with a value first",
    "rate": "rate of its ids",
}
_FALL = 0.1
_STRONG, _LEADERS = 0.8, 3
"""Lower bound from which a jump ahead of all others is worth a look, and how many features may lead together."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A feature's best variant for a task: mean AUC within lists with its interval, mAP, and the numbers of lists with both classes."""

    feature: str
    variant: str
    auc: float
    low: float
    high: float
    map: float
    lists: int

    def __str__(self) -> str:
        """For a finding."""
        interval = f"{self.low:.3f} to {self.high:.3f}, {self.lists:,} lists"
        return f"{self.feature} ({_SAYS[self.variant]}): AUC {self.auc:.3f}, 95 % interval {interval}"


def best_scores(partial: Partial, task: str) -> list[Score]:
    """Each feature's best variant, the best feature first. The interval is Wilson's for a mean of values in [0, 1]."""
    found = []
    for feature, tasks in partial.get("leaks", {}).items():
        scores = [score for score in (_score(feature, variant, sums) for variant, sums in tasks[task].items()) if score]
        if scores:
            found.append(max(scores, key=lambda score: score.auc))
    return sorted(found, key=lambda score: -score.auc)


def _score(feature: str, variant: str, sums: np.ndarray) -> Score | None:
    lists = int(sums[0])
    if not lists:
        return None
    auc = float(sums[1] / lists)
    low, high = wilson(auc, lists)
    return Score(feature, variant, auc, float(low), float(high), float(sums[4] / sums[3]), lists)


def leak_checks(figures: Figures, thresholds: Thresholds) -> list[Check]:
    """Fails above the threshold, over a split or on one of its days; warns of a jump ahead of all others and of a fall after training."""
    if not any("leaks" in figures.whole(split) for split in figures.splits):
        return [Check(AREA, "no feature knows the label", "skip", "no item-level feature is stored")]
    known = list(_too_good(figures, thresholds))
    best = [
        scores[0]
        for split in figures.splits
        for task in figures.spec.tasks
        if (scores := best_scores(figures.whole(split), task))
    ]
    good = f"the best single feature: {max(best, key=lambda score: score.auc)}" if best else "no list has both classes"
    say = f"{len(known)} times a lower bound above {thresholds.leak_auc:g}: the feature is computed with what happened after the impression"
    return [
        judged(AREA, "no feature knows the label", known, good, "fail", say),
        judged(AREA, "no feature jumps ahead of all others", list(_jumps(figures, thresholds)), "none does", "warn"),
        judged(AREA, "features order lists after training as in it", list(_falls(figures)), "none falls", "warn"),
    ]


def _too_good(figures: Figures, thresholds: Thresholds) -> Iterator[str]:
    for split in figures.splits:
        for task in figures.spec.tasks:
            over = [score for score in best_scores(figures.whole(split), task) if score.low > thresholds.leak_auc]
            yield from (f"{score}; task {task}, {split}" for score in over)
            known = {score.feature for score in over}
            for day, partial in figures.read_days(split).items():
                for score in best_scores(partial, task):
                    if score.low > thresholds.leak_auc and score.feature not in known:
                        yield f"{score}; task {task}, {split} of {day} alone"


def _jumps(figures: Figures, thresholds: Thresholds) -> Iterator[str]:
    """Features below the failing threshold before the first gap among the best: several leaks hide each other's."""
    for split in figures.splits:
        for task in figures.spec.tasks:
            scores = best_scores(figures.whole(split), task)
            pairs = list(pairwise(scores[: _LEADERS + 1]))
            gaps = [
                place
                for place, (one, next_one) in enumerate(pairs)
                if one.low > _STRONG and one.low - next_one.high > thresholds.leak_jump
            ]
            ahead = scores[: gaps[-1] + 1] if gaps else []
            yield from (
                f"{score}; the next is {scores[gaps[-1] + 1]}; task {task}, {split}"
                for score in ahead
                if score.low <= thresholds.leak_auc
            )


def _falls(figures: Figures) -> Iterator[str]:
    """Features surely better in training than after it by `_FALL`, as rates that were computed with the training labels are."""
    if "train" not in figures.splits:
        return
    for task in figures.spec.tasks:
        before = {score.feature: score for score in best_scores(figures.whole("train"), task)}
        for split in figures.splits:
            for after in best_scores(figures.whole(split), task):
                if after.feature in before and before[after.feature].low - after.high > _FALL:
                    yield f"train: {before[after.feature]}; {split}: AUC {after.auc:.3f} of {after.lists:,} lists; task {task}"
