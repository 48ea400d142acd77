"""Grades of SUAN (2025; PAPERS 3.8), against the mean of a history and target attention; LightSUAN; where the residual stands.

Only the encoder of the customer's history differs. What counts the events on an item (`history_count`, `history_age`) is left out of the
spec: it would tell every arm a part of what an encoder is there to find. A grade is a number of blocks; the distilled LightSUAN is in
`--study=distillation`. The paper's figures are AUC on private and on public data that we do not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import EQUIVALENT, HIGHER, Arm, Axis, Contrast, Edits, Finding, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.results import Results
from tools.scaling.status import MECHANISM, Judged

GRADES = (1, 2, 3)
EDITS: Edits = (("features.history_count", None), ("features.history_age", None))
BASELINES = {"mean": "mean", "target attention": "target_attention"}
CLEAN = "clean residual"


def _arm(name: str, family: str, encoder: str) -> Arm:
    return Arm(name, family, (("backbone", "masknet"), ("encoder", encoder)), edits=EDITS)


def declare(setup: Setup) -> Study:
    """Both baselines, the grades of SUAN and LightSUAN, and the highest of SUAN with a clean residual; each encoder is tuned by itself."""
    grades = setup.of(GRADES)
    arms = [_arm(name, name, encoder) for name, encoder in BASELINES.items()]
    for kind in ("suan", "lightsuan"):
        arms += [_arm(f"{kind} {grade}", kind, f"{{name: {kind}, layers: {grade}}}") for grade in grades]
    arms.append(_arm(f"suan {grades[-1]}, {CLEAN}", "suan", f"{{name: suan, layers: {grades[-1]}, residual: clean}}"))
    axes = tuple(
        Axis(f"grade of {kind}", tuple((float(grade), f"{kind} {grade}") for grade in grades), 1.0) for kind in ("suan", "lightsuan")
    )
    families = {**{name: name for name in BASELINES}, "suan": "suan 1", "lightsuan": "lightsuan 1"}
    return Study("suan", "Grades of SUAN", "mean", tuple(arms), axes, families)


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """Higher grades are better, SUAN beats what reads a history once, LightSUAN keeps up, and a pre-norm residual helps."""
    del results
    return list(_contrasts([int(level) for level, _ in study.axes[0].levels]))


def _contrasts(grades: Sequence[int]) -> Iterator[Contrast]:
    low, high = grades[0], grades[-1]
    for kind in ("suan", "lightsuan"):
        yield Contrast(f"{kind} {high} less {kind} {low}", change(f"{kind} {low}", f"{kind} {high}"), HIGHER, "3.8 grades", "a power law")
    for baseline in BASELINES:
        requirement = f"3.8 above {baseline}"
        yield Contrast(f"suan {high} less {baseline}", change(baseline, f"suan {high}"), HIGHER, requirement, "higher")
        yield Contrast(f"suan {low} less {baseline}", change(baseline, f"suan {low}"))
    for grade in grades:
        terms = change(f"suan {grade}", f"lightsuan {grade}")
        yield Contrast(f"lightsuan {grade} less suan {grade}", terms, EQUIVALENT, "3.8 sparse and shared", "about as good", "nulls")
    terms = change(f"suan {high}", f"suan {high}, {CLEAN}")
    yield Contrast(f"suan {high} with a clean residual less its code's", terms, HIGHER, "3.8 pre-norm", "without pre-norm lower")


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """What a list of 20 items costs with each encoder."""
    del how
    costs = {arm.name: results.cost(arm.name, "flops_per_list") + 20 * results.cost(arm.name, "flops_per_item") for arm in study.arms}
    speeds = {arm.name: results.cost(arm.name, "items_per_second_train") for arm in study.arms}
    shown = ", ".join(f"{name} {costs[name] / 1e6:.1f} M ({speeds[name]:,.0f} items/s)" for name in costs)
    return [Finding("3.8 cost", MECHANISM, f"FLOPs of a list of 20 items, and training speed on this machine: {shown}")]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Gain by grade."""
    lines = {axis.name.removeprefix("grade of "): gains(results, judged, axis.levels) for axis in study.axes}
    return [Section("Gain by grade", figure=curves({"": lines}, "blocks", f"mAP, change in % of {study.reference}"))]
