"""Data scaling (Figure 3): the same test days after 1/8, 1/4, 1/2 and all of the training days; longer periods add older days."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.comparison.statistics import Resampling
from tools.planning.curves import fits
from tools.report.page import Section
from tools.scaling.declare import HIGHER, Arm, Axis, Contrast, Finding, Lists, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.results import Results
from tools.scaling.status import EXACT, NOT, Judged

SHARES = (0.125, 0.25, 0.5, 1.0)
AXIS = "days"
TOLERANCE = 0.02


def declare(setup: Setup) -> Study:
    """MaskNet at the flagfile's size on each share of the days."""
    period = setup.need_period("data")
    shares = setup.of(SHARES[1:]) if setup.quick else SHARES
    arms = []
    for share in shares:
        name = f"{period.days(share):g} days"
        arms.append(Arm(name, "masknet", (("backbone", "masknet"),), Lists("all" if share == 1 else f"share{share:g}", share)))
    levels = tuple((period.days(share), arm.name) for share, arm in zip(shares, arms, strict=True))
    last = arms[-1].name
    return Study("data", "Data scaling", arms[0].name, tuple(arms), (Axis(AXIS, levels, levels[-1][0]),), {"masknet": last})


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """The slope over doublings, and every doubling alone."""
    days, arms = zip(*study.axes[0].levels, strict=True)
    steps = [Contrast(f"{a} to {b}", change(a, b), table="doublings") for a, b in zip(arms, arms[1:], strict=False)]
    slope = results.slope(arms, days)
    return [Contrast("mAP per doubling of days", slope, HIGHER, "R65", "log-linear gain"), *steps]


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """R66: steps against items. A training reads each item once per epoch, so steps per item are the same for all periods."""
    del how
    ratio = [results.cost(arm, "steps") / results.cost(arm, "items") for _, arm in study.axes[0].levels]
    spread = max(ratio) / min(ratio) - 1
    why = f"steps per training item differ by {spread:.2%} between the periods ({TOLERANCE:.0%} allowed for last batches)"
    return [Finding("R66", EXACT if spread <= TOLERANCE else NOT, why)]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Figure 3, and both forms of curve with what they predict for the last level when it is left out."""
    days, arms = (np.array(part) for part in zip(*study.axes[0].levels, strict=True))
    means = np.array([results.map(str(arm)) for arm in arms])
    line = gains(results, judged, study.axes[0].levels)
    rows = []
    for fit in fits(days.astype(float), means, None, np.ones(len(days))):
        residual = float(np.sum((fit.at(days.astype(float))[0] - means) ** 2))
        parameters = ", ".join(f"{name} = {value:.4g}" for name, value in zip(fit.form.parameters, fit.values, strict=True))
        error = f"{fit.last_out.error:+.4f}" if fit.last_out else "too few levels"
        rows.append((f"{fit.form.name}: {fit.form.formula}", parameters, f"{residual:.2e}", error))
    head = ("form", "parameters", "sum of squares", "error on the last level, left out")
    figure = curves({"": {"masknet": line}}, "training days", f"mAP, change in % of {study.reference}")
    return [Section("Gain by days", "R65: which form predicts the longest period from the shorter ones.", head, rows, figure)]
