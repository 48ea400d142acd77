"""Distillation (PAPERS 3.8, 3.10): a small student alone, taught by a larger model that is trained beside it or was trained before, by each
loss; and LightSUAN taught by SUAN. The claims are those of the papers; how the losses compare is reported, since no paper says it."""

from __future__ import annotations

from collections.abc import Sequence

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import HIGHER, REPORTED, Arm, Contrast, Finding, Setup, Study, change
from tools.scaling.estimate import flags_in
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.results import Results
from tools.scaling.status import MECHANISM, Judged

STUDENT_FILE, TEACHER_FILE, SUAN_FILE = "configs/distilled.flags", "configs/distilled_teacher.flags", "configs/distilled_suan.flags"
MODEL = ("backbone", "variant", "cross_width", "deep_width", "cross_layers", "deep_layers", "experts", "expert_width", "tower_width")
LIGHT = ("encoder", "{name: lightsuan, layers: 1}")
LOSSES = {"bce": "1", "mse": "0.125", "softmax": "1"}
"""Weights: that of mse gives the gradient of bce for small differences of logits, 2 / 8 = 1 / 4 of the difference."""
HELPS, LISTWISE, SAVED, SUAN = "3.8 beside", "3.8 beside, softmax", "3.10 before", "3.8 DistilSUAN"


def declare(setup: Setup) -> Study:
    """Student, teacher, and the student by each way of teaching; a quick study has the same."""
    del setup
    given = flags_in(STUDENT_FILE)
    student = tuple((name, given[name]) for name in MODEL)
    beside, before = ("teacher_flagfile", TEACHER_FILE), ("teacher_run", "{run:teacher}")
    arms = [Arm("student", "student", student), Arm("teacher", "teacher", tuple(flags_in(TEACHER_FILE).items()))]
    for loss, weight in LOSSES.items():
        how = (("distill_loss", loss), ("distill_weight", weight))
        arms += [Arm(f"beside, {loss}", "student", (*student, beside, *how)), Arm(f"before, {loss}", "student", (*student, before, *how))]
    arms.append(Arm("beside, bce, t 3", "student", (*student, beside, ("distill_loss", "bce"), ("distill_temperature", "3"))))
    suan = tuple(flags_in(SUAN_FILE).items())
    arms += [Arm("lightsuan", "lightsuan", (*student, LIGHT)), Arm("suan", "suan", suan)]
    arms.append(Arm("lightsuan by suan", "lightsuan", (*student, LIGHT, ("teacher_flagfile", SUAN_FILE), ("distill_loss", "bce"))))
    families = {name: name for name in ("student", "teacher", "lightsuan", "suan")}
    return Study("distillation", "Distillation", "student", tuple(arms), (), families)


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """A student that is taught beats the same one alone; all else is reported."""
    del study, results
    claims = [
        Contrast("beside, bce less student", change("student", "beside, bce"), HIGHER, HELPS, "distilled beats the same model alone"),
        Contrast("beside, softmax less student", change("student", "beside, softmax"), HIGHER, LISTWISE, "not in the paper"),
        Contrast("before, mse less student", change("student", "before, mse"), HIGHER, SAVED, "KD-DAGFM: squares of logits"),
        Contrast("lightsuan by suan less lightsuan", change("lightsuan", "lightsuan by suan"), HIGHER, SUAN, "+6 per mille AUC (grade 3)"),
    ]
    pairs = [("student", "teacher"), ("suan", "lightsuan by suan"), ("teacher", "beside, bce"), ("beside, bce", "beside, bce, t 3")]
    pairs += [(f"before, {loss}", f"beside, {loss}") for loss in LOSSES]
    pairs += [(f"{way}, bce", f"{way}, {loss}") for way in ("beside", "before") for loss in LOSSES if loss != "bce"]
    return [*claims, *(Contrast(f"{second} less {first}", change(first, second), REPORTED, table="reported") for first, second in pairs)]


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """What the student's scores cost beside the teacher's, and what teaching costs in training."""
    del study, how
    cost = {name: results.cost(name, "flops_per_item") for name in ("student", "teacher")}
    seconds = {name: results.cost(name, "seconds_train") for name in ("student", "beside, bce", "before, bce")}
    shares = ", ".join(f"{name} {seconds[name] / seconds['student']:.1f}" for name in ("beside, bce", "before, bce"))
    why = f"student {cost['student']:,.0f} FLOPs per item, {cost['student'] / cost['teacher']:.1%} of the teacher's"
    return [Finding("3.8 cost", MECHANISM, f"{why}; seconds of training, times the student's alone: {shares}")]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Gain against what scoring an item costs."""
    points = {arm.name: [(results.cost(arm.name, "flops_per_item") / 1e3, arm.name)] for arm in study.evaluated}
    figure = curves({"": {name: gains(results, judged, own) for name, own in points.items()}}, "thousand FLOPs per item",
                    f"mAP, change in % of {study.reference}", joined=False)  # fmt: skip
    return [Section("Gain by FLOPs", figure=figure)]
