"""Coverage (Table 4): customer features on all days, or on the most recent ones only and `unseen` before.

The shortest period is as long as the coverage: there both arms have the same records, and with the same seed the same model, bit for bit.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np

from cvr.errors import CvrError
from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import EQUIVALENT, Arm, Axis, Contrast, Finding, Lists, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.paper import TABLE_4
from tools.scaling.results import Results
from tools.scaling.status import EXACT, NOT, Judged

SHARES = (0.6, 0.8, 1.0)
FLAGS = (("backbone", "masknet"), ("deterministic", "true"))
FEATURES = ("customer_segment", "history", "history_count", "history_age")
"""What personalises in the spec of synthetic logs."""


def declare(setup: Setup) -> Study:
    """Two arms per period: FEATURES introduced on its first day, or on the first of the most recent 60 % of all days."""
    period = setup.need_period("coverage")
    first = period.start(SHARES[0])
    if first.time() != datetime.time():
        raise CvrError(f"--study=coverage: its recent days begin at {first}; choose a period whose {SHARES[0]:.0%} are whole days")
    recent = tuple((f"features.{name}.introduced_on", first.date()) for name in FEATURES)
    arms, paper, levels = [], {}, []
    for share, days in setup.of(tuple(zip(SHARES, TABLE_4, strict=True))):
        for place, (kind, edits) in enumerate((("all", ()), ("recent", recent))):
            name = f"{period.days(share):g} days, {kind}"
            arms.append(Arm(name, "masknet", FLAGS, Lists(f"{kind}{share:g}", share, edits)))
            paper[name] = f"{days} days: {TABLE_4[days][place]:+.2f} %"
        levels.append(period.days(share))
    kinds = ("all", "recent")
    axes = tuple(Axis(f"days, {kind}", tuple((days, f"{days:g} days, {kind}") for days in levels), levels[0]) for kind in kinds)
    return Study("coverage", "Coverage of customer features", arms[0].name, tuple(arms), axes, {"masknet": arms[0].name}, paper=paper)


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """Recent coverage against full, in every period but the identical one."""
    del results
    pairs = [(full, recent) for (_, full), (_, recent) in zip(study.axes[0].levels, study.axes[1].levels, strict=True)][1:]
    figures = list(TABLE_4.values())[-len(pairs) :]
    return [
        Contrast(f"{recent} less all", change(full, recent), EQUIVALENT, "R67", f"{own[1] - own[0]:+.2f} %", "nulls")
        for (full, recent), own in zip(pairs, figures, strict=True)
    ]


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """The identity: average precision of every list and seed is the same to the last bit."""
    del how
    first, second = (results.values[axis.levels[0][1]] for axis in study.axes)
    differ = int(np.sum(np.any(first != second, axis=0)))
    counts = f"{first.shape[1]:,} test lists, {len(first)} seeds"
    why = f"{counts}: {differ:,} lists differ in average precision; the paper's own row differs by 0.03 %"
    return [Finding("R67 identity", NOT if differ else EXACT, why)]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Gain by days, a line per coverage."""
    lines = {axis.name.partition(", ")[2]: gains(results, judged, axis.levels) for axis in study.axes}
    return [Section("Gain by days and coverage", figure=curves({"": lines}, "training days", f"mAP, change in % of {study.reference}"))]
