"""GPSD: rankers from scratch, from a pre-trained generator, and with its item table frozen, as item vectors and decoder get wider (3.12).

The paper's claims: from scratch the wider ones over-fit, with sparse transfer and freeze (STSF) each size is better than the one before.
"""

from __future__ import annotations

from collections.abc import Sequence

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import HIGHER, LOWER, Arm, Axis, Contrast, Edits, Finding, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.results import Results
from tools.scaling.status import EXACT, NOT, Judged

DIMS = (8, 16, 32, 64)
HEAD = 8
"""Width of a head: wider ones have more of them."""
PRETRAIN = "cvr.pretrain"
EPOCHS = {True: ("3", "2"), False: ("10", "4")}
"""Of pre-training and of ranking, for a quick study and a full one: from scratch over-fitting needs several passes."""
KINDS = ("scratch", "full", "stsf", "frozen")
"""The last one freezes the table as it is initialised: what the freeze alone is worth."""


def _flags(kind: str, source: str, encoder: str, epochs: str) -> tuple[tuple[str, str], ...]:
    flags = [("backbone", "masknet"), ("encoder", encoder), ("epochs", epochs)]
    if kind in ("full", "stsf"):
        flags.append(("warm_start_from", f"{{run:{source}}}"))
    if kind == "stsf":
        flags.append(("warm_start_parts", "tables"))
    if kind in ("stsf", "frozen"):
        flags.append(("freeze_tables", "item"))
    return tuple(flags)


def declare(setup: Setup) -> Study:
    """At each width a pre-training and four rankers of one architecture; they share what was tuned at the narrowest from scratch."""
    arms: list[Arm] = []
    levels: dict[str, list[tuple[float, str]]] = {kind: [] for kind in KINDS}
    generative, ranking = EPOCHS[setup.quick]
    for dim in setup.of(DIMS):
        edits: Edits = (("tables.item.dim", dim),)
        encoder, source = f"{{name: decoder, layers: 2, heads: {dim // HEAD}}}", f"pretrain {dim}"
        own = (("encoder", encoder), ("epochs", generative), ("negatives", "512"), ("learning_rate", "0.005"))
        arms.append(Arm(source, "", own, edits=edits, program=PRETRAIN))
        for kind in KINDS:
            arms.append(Arm(f"{kind} {dim}", "masknet", _flags(kind, source, encoder, ranking), edits=edits))
            levels[kind].append((float(dim), f"{kind} {dim}"))
    axes = tuple(Axis(f"dim, {kind}", tuple(found), found[0][0]) for kind, found in levels.items())
    first = levels["scratch"][0][1]
    return Study("gpsd", "Generative pre-training", first, tuple(arms), axes, {"masknet": first})


def _by_kind(study: Study) -> dict[str, tuple[tuple[float, ...], tuple[str, ...]]]:
    """(dims, arms) of each kind."""
    return {kind: tuple(zip(*axis.levels, strict=True)) for kind, axis in zip(KINDS, study.axes, strict=True)}  # type: ignore[misc]


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """Slopes over doublings of the width, and what the transfers gain at the widest."""
    kinds = _by_kind(study)
    slopes = {kind: results.slope(arms, dims) for kind, (dims, arms) in kinds.items()}
    scratch, full, stsf, frozen = (kinds[kind][1] for kind in KINDS)
    gap = (*slopes["stsf"], *((arm, -coefficient) for arm, coefficient in slopes["scratch"]))
    steps = [Contrast(f"{a} to {b}", change(a, b), table="doublings") for a, b in zip(stsf, stsf[1:], strict=False)]
    return [
        Contrast("mAP per doubling, scratch", slopes["scratch"], LOWER, "3.12 scratch over-fits", "lower"),
        Contrast("mAP per doubling, stsf", slopes["stsf"], HIGHER, "3.12 STSF grows", "higher"),
        Contrast("mAP per doubling, stsf less scratch", gap, HIGHER, "3.12 the gap widens", "wider"),
        Contrast(f"{stsf[-1]} less {scratch[-1]}", change(scratch[-1], stsf[-1]), HIGHER, "3.12 STSF beats scratch", "higher"),
        Contrast("mAP per doubling, full", slopes["full"]),
        Contrast(f"{full[-1]} less {scratch[-1]}", change(scratch[-1], full[-1])),
        Contrast(f"{stsf[-1]} less {full[-1]}", change(full[-1], stsf[-1])),
        Contrast(f"{stsf[-1]} less {frozen[-1]}", change(frozen[-1], stsf[-1])),
        *steps,
    ]


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """Whether each width of STSF has a higher mean mAP than the one before, whatever the intervals."""
    del how
    means = [results.map(arm) for arm in _by_kind(study)["stsf"][1]]
    rising = all(one < other for one, other in zip(means, means[1:], strict=False))
    why = f"mean test mAP by width: {', '.join(f'{value:.4f}' for value in means)}; the intervals are those of the doublings"
    return [Finding("3.12 STSF is monotone", EXACT if rising else NOT, why)]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Gain by width, a line per kind."""
    lines = {kind: gains(results, judged, axis.levels) for kind, axis in zip(KINDS, study.axes, strict=True)}
    figure = curves({"": lines}, "width of item vectors and decoder", f"mAP, change in % of {study.reference}")
    return [Section("Gain by width", figure=figure)]
