"""Ensembles (Figure 4): a one-layer DHEN of DCN-V2 and MaskNet against its members, and against single backbones of the same FLOPs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import HIGHER, Arm, Contrast, Finding, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.results import Results
from tools.scaling.status import EXACT, NOT, Judged

MEMBERS: dict[str, dict[str, Any]] = {
    "dcnv2": {"cross_width": 64, "deep_width": 64},
    "masknet": {"cross_width": 128, "deep_width": 64, "parallel_blocks": 2},
}
ENSEMBLE = {
    "members": ",".join(":".join([name, *(f"{key}={value}" for key, value in own.items())]) for name, own in MEMBERS.items()),
    "tokens": 8,
    "model_width": 16,
}
WIDER: dict[str, dict[str, Any]] = {
    "dcnv2 at its FLOPs": {"backbone": "dcnv2", "cross_width": 324, "deep_width": 64},
    "masknet at its FLOPs": {"backbone": "masknet", "cross_width": 152, "deep_width": 64, "parallel_blocks": 2},
}
EQUAL = 0.05
"""FLOPs count as equal within this share."""


def _arm(name: str, own: dict[str, Any]) -> Arm:
    return Arm(name, str(own["backbone"]), tuple((key, str(value)) for key, value in own.items()))


def declare(setup: Setup) -> Study:
    """Members, ensemble and wider members; a quick study has the same."""
    del setup
    arms = [_arm(name, {"backbone": name, **own}) for name, own in MEMBERS.items()]
    arms += [_arm("dhen", {"backbone": "dhen", **ENSEMBLE}), *(_arm(name, own) for name, own in WIDER.items())]
    return Study("ensemble", "Ensembles", "dcnv2", tuple(arms), (), {name: name for name in (*MEMBERS, "dhen")})


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """R68: the ensemble beats its members; R69: the wider backbone with the higher validation mAP beats the ensemble."""
    return list(_contrasts(results, [arm.name for arm in study.arms]))


def _contrasts(results: Results, names: Sequence[str]) -> Iterator[Contrast]:
    for member in MEMBERS:
        yield Contrast(f"dhen less {member}", change(member, "dhen"), HIGHER, "R68", "beats its members")
    best = max(WIDER, key=results.validation)
    for name in WIDER:
        claim, requirement = (HIGHER, "R69") if name == best else ("", "")
        yield Contrast(f"{name} less dhen", change("dhen", name), claim, requirement, "single backbones win")


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """Whether the arms of equal FLOPs are."""
    del study, how
    dhen = results.cost("dhen", "flops_per_item")
    shares = {name: results.cost(name, "flops_per_item") / dhen for name in WIDER}
    word = EXACT if all(abs(share - 1) <= EQUAL for share in shares.values()) else NOT
    return [Finding("R69 equal FLOPs", word, ", ".join(f"{name}: {share:.3f} of those of dhen" for name, share in shares.items()))]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Figure 4: gain against FLOPs."""
    points = {arm.name: [(results.cost(arm.name, "flops_per_item") / 1e6, arm.name)] for arm in study.arms}
    panels = {"": {name: gains(results, judged, own) for name, own in points.items()}}
    figure = curves(panels, "million FLOPs per item", f"mAP, change in % of {study.reference}", joined=False)
    return [Section("Gain by FLOPs", figure=figure)]
