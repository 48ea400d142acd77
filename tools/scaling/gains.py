"""Points of the plots: what arms gained on the reference, in percent, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from tools.scaling.figures import Line
from tools.scaling.report import ARMS
from tools.scaling.results import Results, relative
from tools.scaling.status import Judged


def gains(results: Results, judged: Sequence[Judged], points: Sequence[tuple[float, str]], paper: Sequence[float] = ()) -> Line:
    """A line through (x, arm): relative change of mAP to the study's reference, whose own point has no interval."""
    found = {one.contrast.name: one.row.found for one in judged if one.contrast.table == ARMS}
    reference = results.map(results.study.reference)
    x, arms = zip(*points, strict=True)
    reach = [found[arm].relative_interval if arm in found else (0.0, 0.0) for arm in arms]
    low, high = ([100 * one[side] for one in reach] for side in (0, 1))
    return Line(x, [relative(results.map(arm) - reference, reference) for arm in arms], low, high, paper)
