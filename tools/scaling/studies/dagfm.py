"""KD-DAGFM: a graph student taught by a cross network's logits, against the student alone and the teacher (PAPERS 3.10).

As in the paper the student takes over the teacher's embedding tables, which it leaves as they are, and learns from its own labels and from
the squared difference of logits. The arm "frozen" has the tables and no teacher, so that the two can be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import EQUIVALENT, HIGHER, Arm, Contrast, Finding, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.results import Results
from tools.scaling.status import EXACT, NOT, Judged

TEACHER = {"backbone": "dcnv2", "cross_width": "256", "cross_layers": "3", "cross_rank": "0", "deep_width": "64", "deep_layers": "1"}
"""The cross network, three full layers as in the paper; DCN-V2's deep tower is down to one view of the input."""
STUDENT = {"backbone": "dagfm", "tokens": "8", "model_width": "8", "depth": "3"}
TABLES = {"warm_start_from": "{run:teacher}", "warm_start_parts": "tables", "freeze_tables": "all"}
TAUGHT = {"teacher_run": "{run:teacher}", "distill_loss": "mse"}
ARMS: Mapping[str, Mapping[str, str]] = {
    "teacher": TEACHER,
    "student": STUDENT,
    "frozen": {**STUDENT, **TABLES},
    "distilled": {**STUDENT, **TABLES, **TAUGHT},
}
SHARE = 0.215
"""The paper: less than 21.5 % of the FLOPs of the best compared model."""


def declare(setup: Setup) -> Study:
    """Four arms; a quick study has the same. Rates are tuned for teacher and student; the other two take the student's."""
    del setup
    families = {"teacher": "dcnv2"}
    arms = [Arm(name, families.get(name, "dagfm"), tuple(flags.items())) for name, flags in ARMS.items()]
    return Study("dagfm", "A graph student of a cross network", "student", tuple(arms), (), {"dcnv2": "teacher", "dagfm": "student"})


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """The taught student beats the student alone and keeps up with its teacher."""
    del study, results
    return [
        Contrast("distilled less student", change("student", "distilled"), HIGHER, "3.10 better than alone", "higher"),
        Contrast("distilled less teacher", change("teacher", "distilled"), EQUIVALENT, "3.10 as good as the teacher", "equal", "nulls"),
        Contrast("distilled less frozen", change("frozen", "distilled")),
        Contrast("frozen less student", change("student", "frozen")),
        Contrast("teacher less student", change("student", "teacher")),
    ]


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """FLOPs of the student, of the teacher's."""
    del study, how
    share = results.cost("distilled", "flops_per_item") / results.cost("teacher", "flops_per_item")
    why = f"the student's ranker has {share:.1%} of the FLOPs per item of the teacher's; the paper: less than {SHARE:.1%}"
    return [Finding("3.10 FLOPs", EXACT if share < SHARE else NOT, why)]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Gain against FLOPs."""
    points = {arm.name: [(results.cost(arm.name, "flops_per_item") / 1e6, arm.name)] for arm in study.arms}
    panels = {"": {name: gains(results, judged, own) for name, own in points.items()}}
    figure = curves(panels, "million FLOPs per item", f"mAP, change in % of {study.reference}", joined=False)
    return [Section("Gain by FLOPs", figure=figure)]
