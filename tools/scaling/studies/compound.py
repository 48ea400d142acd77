"""Compound effects (Figure 5, Table 5): does the rank of backbones and embeddings hold from less data to all, and do gains add up?

A factorial of data (a quarter of the days, all), backbone (cross width 128, 512) and embedding (item dimension 8, 32), beside other
backbones on both amounts of data.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import stats

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import EQUIVALENT, HIGHER, Arm, Axis, Contrast, Finding, Lists, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.paper import TABLE_5
from tools.scaling.results import Results
from tools.scaling.status import DIRECTION, NOT, Judged

FACTORS = ("data", "backbone", "embedding")
LESS = 0.25
MASKNET = (("backbone", "masknet"), ("deep_width", "64"), ("parallel_blocks", "2"))
OTHERS = {
    "dcnv2": (("backbone", "dcnv2"), ("cross_width", "64"), ("deep_width", "64")),
    "transformer": (("backbone", "transformer"), ("model_width", "8"), ("tokens", "4"), ("ffn_width", "64")),
    "rankmixer": (("backbone", "rankmixer"), ("model_width", "16"), ("tokens", "4"), ("ffn_width", "64")),
}


def _lists(whole: bool) -> Lists:
    return Lists() if whole else Lists("less", LESS)


def _name(raised: Sequence[str]) -> str:
    return "base" if not raised else "+".join(raised)


def _cell(raised: Sequence[str]) -> Arm:
    """An arm of the factorial."""
    flags = (*MASKNET, ("cross_width", "512" if "backbone" in raised else "128"))
    edits = (("tables.item.dim", 32 if "embedding" in raised else 8),)
    return Arm(_name(raised), "masknet", flags, _lists("data" in raised), edits)


def declare(setup: Setup) -> Study:
    """The factorial; in a full study also the other backbones on both amounts of data."""
    setup.need_period("compound")
    sets = [tuple(chosen) for count in range(4) for chosen in itertools.combinations(FACTORS, count)]
    arms = [_cell(chosen) for chosen in sets]
    families = {"masknet": "base"}
    for name, flags in {} if setup.quick else OTHERS.items():
        arms += [Arm(f"{name}, {'all' if whole else 'less'} data", name, flags, _lists(whole)) for whole in (False, True)]
        families[name] = f"{name}, less data"
    days = [setup.need_period("compound").days(share) for share in (LESS, 1.0)]
    axes = tuple(
        Axis(f"days, {name}", ((days[0], f"{name}, less data"), (days[1], f"{name}, all data")), days[0])
        for name in families
        if name != "masknet"
    )
    paper = {name: f"{gain:+.2f} %" for name, gain in TABLE_5.items()}
    raised = {_name(chosen): "+".join(chosen) for chosen in sets}
    return Study("compound", "Compound effects", "base", tuple(arms), axes, families, raised, paper)


def _backbones(study: Study) -> dict[str, tuple[str, str]]:
    """Each backbone's arms on less data and on all."""
    return {"masknet": ("base", "data"), **{axis.name.partition(", ")[2]: (axis.levels[0][1], axis.levels[1][1]) for axis in study.axes}}


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """R72: the combined gain against the sum of the single ones; R71: what choosing the backbone on less data costs on all."""
    whole = _name(FACTORS)
    found = [Contrast(name, change("base", name), HIGHER, "R72", f"{TABLE_5[name]:+.2f} %") for name in (*FACTORS, whole)]
    residual = ((whole, 1.0), ("base", 2.0), *((name, -1.0) for name in FACTORS))
    found.append(Contrast("combined less the sum of parts", residual, EQUIVALENT, "R72", "+0.04 %", "nulls"))
    backbones = _backbones(study)
    if len(backbones) > 1:
        on_less, on_all = (max(backbones, key=lambda name: results.validation(backbones[name][side])) for side in (0, 1))
        chosen, best = backbones[on_less][1], backbones[on_all][1]
        if chosen != best:
            found.append(Contrast(f"{chosen} less {best}", change(best, chosen), EQUIVALENT, "R71", "no regret", "nulls"))
    return found


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """R70: Kendall's tau of the backbones' order on less data and on all; R71 where the same backbone is chosen on both."""
    del how
    backbones = _backbones(study)
    if len(backbones) < 2:
        return []
    less, whole = ([results.map(arms[side]) for arms in backbones.values()] for side in (0, 1))
    tau, p = stats.kendalltau(less, whole)
    seeds = min(len(results.values[arm]) for arms in backbones.values() for arm in arms)
    taus = [stats.kendalltau(*([results.values[arms[side]][seed].mean() for arms in backbones.values()] for side in (0, 1)))[0]
            for seed in range(seeds)]  # fmt: skip
    why = f"Kendall's tau {tau:+.2f} of {len(backbones)} backbones (p {p:.2f}), by seed {', '.join(f'{one:+.2f}' for one in taus)}"
    found = [Finding("R70", DIRECTION if np.isclose(tau, 1.0) else NOT, why + "; reproduced where all are in the same order")]
    best = [max(backbones, key=lambda name: results.validation(backbones[name][side])) for side in (0, 1)]
    if best[0] == best[1]:
        found.append(Finding("R71", DIRECTION, f"{best[0]} has the highest validation mAP on both: choosing on less data costs nothing"))
    return found


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Figure 5: gain by days, a line per backbone (a) and per embedding (b)."""
    if not study.axes:
        return []
    days = [level for level, _ in study.axes[0].levels]
    panels = {
        "backbones": {n: gains(results, judged, list(zip(days, arms, strict=True))) for n, arms in _backbones(study).items()},
        "item dimension, masknet": {
            "8": gains(results, judged, [(days[0], "base"), (days[1], "data")]),
            "32": gains(results, judged, [(days[0], "embedding"), (days[1], _name(("data", "embedding")))]),
        },
    }
    return [Section("Gain by days", figure=curves(panels, "training days", f"mAP, change in % of {study.reference}"))]
