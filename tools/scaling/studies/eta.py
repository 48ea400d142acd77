"""Long histories: ETA's nearest events beside the recent ones, against attention over the recent ones alone and over all (PAPERS 3.11).

All arms but the last have ETA's attention and differ in what it reads: the R most recent events, also the k nearest of all, or all. Lists
are built with histories of up to 200 events. What counts the events on an item (`history_count`, `history_age`) is left out of the spec: it
reads the whole history in every arm and would tell each of them what the older events hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import EQUIVALENT, HIGHER, Arm, Contrast, Edits, Finding, Lists, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.results import Results
from tools.scaling.status import MECHANISM, Judged

LENGTH, RECENT, TOP_K = 200, 10, 20
LISTS = Lists("long", edits=(("features.history.history.length", LENGTH),))
EDITS: Edits = (("features.history_count", None), ("features.history_age", None))
ENCODERS = {
    "recent": f"{{name: eta, top_k: 0, recent: {RECENT}}}",
    "top-k": f"{{name: eta, top_k: {TOP_K}, recent: {RECENT}}}",
    "everything": f"{{name: eta, top_k: 0, recent: {LENGTH}}}",
    "target attention": "target_attention",
}


def declare(setup: Setup) -> Study:
    """One arm per encoder, on MaskNet; a quick study has the same."""
    setup.need_period("eta")
    arms = [Arm(name, "masknet", (("backbone", "masknet"), ("encoder", text)), LISTS, EDITS) for name, text in ENCODERS.items()]
    paper = {"top-k": "CTR +1.8 % (online)"}
    return Study("eta", "Long histories by hashing", "recent", tuple(arms), (), {"masknet": "top-k"}, paper=paper)


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """The nearest events beat the recent ones alone, and lose nothing against all."""
    del study, results
    return [
        Contrast("top-k less recent", change("recent", "top-k"), HIGHER, "3.11 more than the recent events", "higher"),
        Contrast("top-k less everything", change("everything", "top-k"), EQUIVALENT, "3.11 as much as all events", "higher", "nulls"),
        Contrast("everything less recent", change("recent", "everything")),
        Contrast("target attention less everything", change("everything", "target attention")),
    ]


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """FLOPs of what is read."""
    del study, how
    flops = {name: results.cost(name, "flops_per_item") for name in ("recent", "top-k", "everything")}
    shown = ", ".join(f"{name} {count:,.0f}" for name, count in flops.items())
    times = "python -m tools.benchmarks.encoders has the times, up to 10,000 events"
    return [Finding("3.11 cost", MECHANISM, f"FLOPs per item: {shown}; comparing codes is not among them; {times}")]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Gain against FLOPs."""
    points = {arm.name: [(results.cost(arm.name, "flops_per_item") / 1e6, arm.name)] for arm in study.arms}
    panels = {"": {name: gains(results, judged, own) for name, own in points.items()}}
    figure = curves(panels, "million FLOPs per item", f"mAP, change in % of {study.reference}", joined=False)
    return [Section("Gain by FLOPs", figure=figure)]
