"""Backbone scaling (Table 1, Figures 2 and 4): every factor V1..V4 of four backbones at 1/16 of the paper's sizes.

Widths of DCN-V2 and MaskNet are divided by 16. A sequence of tokens is as wide as L d together, so L, d and the feed-forward width are
divided by 4 each. Numbers of layers, heads and blocks stay. The head's first layer, 4,096 in the paper, is 4 experts x 64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from cvr import backbones
from tools import table1_flops
from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import (
    EQUIVALENT,
    HIGHER,
    LOWER,
    REPORTED,
    Arm,
    Axis,
    Contrast,
    Finding,
    Setup,
    Study,
    change,
)
from tools.scaling.figures import Line, curves
from tools.scaling.gains import gains
from tools.scaling.paper import TABLE_1
from tools.scaling.results import Results
from tools.scaling.status import EXACT, MECHANISM, NOT, UNTESTABLE, Judged

REFERENCE = "dcnv2"
DIVISORS = {"cross_width": 16, "deep_width": 16, "model_width": 4, "tokens": 4, "ffn_width": 4}
KEPT = ("parallel_blocks", "sequential_blocks", "layers", "heads")
CLAIMS = {
    ("dcnv2", "cross width"): ("R46", HIGHER),
    ("dcnv2", "deep width"): ("R47", HIGHER),
    ("masknet", "cross width"): ("R48", HIGHER),
    ("masknet", "deep width"): ("R49", EQUIVALENT),
    ("masknet", "parallel blocks"): ("R50", HIGHER),
    ("transformer", "d_model"): ("R52", HIGHER),
    ("transformer", "sequence length"): ("R53", HIGHER),
    ("transformer", "layers"): ("R54", EQUIVALENT),
    ("transformer", "heads"): ("R54", EQUIVALENT),
    ("transformer", "ffn_dim"): ("R54", EQUIVALENT),
    ("rankmixer", "d_model"): ("R55", HIGHER),
    ("rankmixer", "sequence length"): ("R55", HIGHER),
    ("rankmixer", "layers"): ("R55", REPORTED),
    ("rankmixer", "ffn_dim"): ("R55", EQUIVALENT),
}
"""Requirement and what the paper found of the last level against the first. MaskNet's sequential blocks have a claim of their own."""
STEEPER = (
    ("dcnv2 cross width", "dcnv2 deep width"),
    ("masknet cross width", "masknet deep width"),
    ("transformer sequence length", "transformer d_model"),
)


def factors(row: table1_flops.Row, value: int) -> dict[str, int]:
    """The flags of a cell of Table 1, scaled down."""
    given = {row.factor: value, **{n: max(o[0], o[1] * value) if isinstance(o, tuple) else o for n, o in row.others.items()}}
    config = dataclasses.asdict(backbones.make_config(row.backbone, given, row.variant))
    scaled = {name: config[name] // by for name, by in DIVISORS.items() if name in config}
    return {**scaled, **{name: config[name] for name in KEPT if name in config}}


def _default(row: table1_flops.Row) -> int:
    """The paper's default of the row's factor."""
    return int(getattr(backbones.make_config(row.backbone, {}, row.variant), row.factor))


def _name(row: table1_flops.Row, value: int) -> str:
    own = factors(row, value)
    plain = dataclasses.replace(row, others={})
    if own == factors(plain, _default(row)):
        return row.backbone
    single = " in one branch" if row.others.get("parallel_blocks") else ""
    return f"{row.backbone} {row.factor} {own[row.factor]}{single}"


def arm(name: str, backbone: str, own: dict[str, Any]) -> Arm:
    """An arm of a backbone with its factors."""
    return Arm(name, backbone, tuple((key, str(value)) for key, value in {"backbone": backbone, **own}.items()))


def _rows(setup: Setup) -> Sequence[table1_flops.Row]:
    """All of Table 1; of a quick study the first factor of each backbone."""
    if not setup.quick:
        return table1_flops.ROWS
    first = {row.backbone: row for row in reversed(table1_flops.ROWS)}
    return [first[name] for name in ("dcnv2", "masknet", "transformer", "rankmixer")]


def declare(setup: Setup) -> Study:
    """The arms of Table 1; one that is in several rows is run once."""
    arms: dict[tuple[str, tuple[tuple[str, int], ...]], Arm] = {}
    axes: list[Axis] = []
    paper: dict[str, str] = {}
    for row in _rows(setup):
        gains, throughput = TABLE_1[row.backbone, row.name]
        levels = []
        for value, gain, speed, flops in setup.of(tuple(zip(row.values, gains, throughput, row.published, strict=True))):
            own = factors(row, value)
            key = (row.backbone, tuple(sorted(own.items())))
            made = arms.setdefault(key, arm(_name(row, value), row.backbone, own))
            levels.append((float(own[row.factor]), made.name))
            paper.setdefault(made.name, f"{gain:+.2f} % mAP, {speed:+.2f} % items/s, {flops:.2f}e7 FLOPs")
        base = factors(row, _default(row))[row.factor]
        known = [level for level, _ in levels]
        axes.append(Axis(f"{row.backbone} {row.name}", tuple(levels), float(base if base in known else known[0]), setup.of(gains)))
    families = {one.family: one.name for one in reversed(arms.values())}
    families.update({one.family: one.name for one in arms.values() if one.name == one.family})
    return Study("backbone", "Backbone scaling", REFERENCE, tuple(arms.values()), tuple(axes), families, paper=paper)


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """Last level against first of every axis, slopes per doubling of FLOPs, and backbones at equal FLOPs."""
    return [*_ends(study), *_slopes(study, results), *_equal_flops(study, results)]


def _ends(study: Study) -> Iterator[Contrast]:
    for axis in study.axes:
        backbone, _, name = axis.name.partition(" ")
        (low, first), (high, last) = axis.levels[0], axis.levels[-1]
        paper = f"{axis.paper[-1] - axis.paper[0]:+.2f} %"
        if name == "sequential blocks":
            before, after = axis.levels[-2], axis.levels[-1]
            drop = f"{axis.paper[-1] - axis.paper[-2]:+.2f} %"
            yield Contrast(f"{axis.name} {before[0]:g} to {after[0]:g}", change(before[1], after[1]), LOWER, "R51", drop)
            yield Contrast(f"{axis.name} {low:g} to {before[0]:g}", change(first, before[1]), EQUIVALENT, "R51", "flat", "nulls")
            continue
        requirement, claim = CLAIMS[backbone, name]
        table = "nulls" if claim == EQUIVALENT else "claims"
        yield Contrast(f"{axis.name} {low:g} to {high:g}", change(first, last), claim, requirement, paper, table)


def _slopes(study: Study, results: Results) -> Iterator[Contrast]:
    slopes = {}
    for axis in study.axes:
        arms = [name for _, name in axis.levels]
        flops = [results.cost(name, "flops_per_item") for name in arms]
        slopes[axis.name] = results.slope(arms, flops)
        yield Contrast(f"{axis.name}, per doubling of FLOPs", slopes[axis.name], table="slopes")
    for steep, flat in STEEPER:
        if steep in slopes and flat in slopes:
            terms = _sum(slopes[steep], slopes[flat])
            yield Contrast(f"slope of {steep} less that of {flat.partition(' ')[2]}", terms, HIGHER, "R59", "steeper", "slopes")


def _sum(plus: Sequence[tuple[str, float]], minus: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """The terms of a difference, an arm of both once."""
    total = dict.fromkeys([name for name, _ in (*plus, *minus)], 0.0)
    for sign, terms in ((1.0, plus), (-1.0, minus)):
        for name, coefficient in terms:
            total[name] += sign * coefficient
    return tuple(total.items())


def _equal_flops(study: Study, results: Results) -> Iterator[Contrast]:
    """Of each backbone the arm with the highest validation mAP among those within the FLOPs that all of them reach."""
    flops = {one.name: results.cost(one.name, "flops_per_item") for one in study.arms}
    families = list(dict.fromkeys(one.family for one in study.arms))
    budget = min(max(flops[one.name] for one in study.arms if one.family == family) for family in families)
    chosen = {}
    for family in families:
        able = [one.name for one in study.arms if one.family == family and flops[one.name] <= budget]
        chosen[family] = max(able, key=results.validation)
    for family in ("transformer", "rankmixer"):
        name = f"{chosen[family]} less {chosen['dcnv2']}, within {budget / 1e6:.2f} M FLOPs"
        yield Contrast(name, change(chosen["dcnv2"], chosen[family]), HIGHER, "R56", "sequence models beat DCN-V2", "equal FLOPs")
        name = f"{chosen['masknet']} less {chosen[family]}, within {budget / 1e6:.2f} M FLOPs"
        yield Contrast(name, change(chosen[family], chosen["masknet"]), HIGHER, "R56", "a tuned MaskNet beats them", "equal FLOPs")


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """FLOPs held against Table 1, and what this machine cannot show."""
    del how
    cells = list(table1_flops.cells())
    good = [cell for cell in cells if abs(cell.difference) <= table1_flops.TOLERANCE]
    odd = [cell for cell in cells if cell not in good and not cell.is_misprint]
    speeds = [results.cost(one.name, "items_per_second_train") / results.cost(REFERENCE, "items_per_second_train") for one in study.arms]
    slowest = min(zip(speeds, (one.name for one in study.arms), strict=True))
    why = f"{len(good)} of {len(cells)} cells of Table 1 within {table1_flops.TOLERANCE:.1%} at the paper's sizes; the rest is its misprint"
    throughput = f"the slowest arm, {slowest[1]}, trains at {slowest[0]:.2f} of the reference's items/s; a ratio of CPUs, not of GPUs"
    return [
        Finding("R44", NOT if odd else EXACT, why),
        Finding("R45", MECHANISM, throughput),
        Finding("R57", MECHANISM, "FLOPs and items/s of every arm are in the table; the paper's drops are those of its GPUs"),
        Finding("R58", UNTESTABLE, "memory that grows out of a GPU needs one; cvr.describe prints each model's activation bytes"),
    ]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Figure 2: gain against FLOPs, a panel per backbone; Figure 4: all of them in one."""

    def line(arms: Sequence[str], paper: Sequence[float] = ()) -> Line:
        return gains(results, judged, [(results.cost(name, "flops_per_item") / 1e6, name) for name in arms], paper)

    panels: dict[str, dict[str, Line]] = {}
    for axis in study.axes:
        backbone, _, name = axis.name.partition(" ")
        panels.setdefault(backbone, {})[name] = line([one for _, one in axis.levels], axis.paper)
    every = {name: line([one.name for one in study.arms if one.family == name]) for name in panels}
    label = f"mAP, change in % of {REFERENCE}"
    note = "Dashed: the gains of the paper's Table 1, drawn over our FLOPs of the same level."
    return [
        Section("Gain by factor", figure=curves(panels, "million FLOPs per item", label), note=note),
        Section("All backbones", figure=curves({"": every}, "million FLOPs per item", label, joined=False)),
    ]
