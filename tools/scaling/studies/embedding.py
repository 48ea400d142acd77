"""Embedding scaling (Table 3): dimension of the item table by its vocabulary, and the dimensions of query and title n-grams.

The synthetic shop has 2,000 items: 512 buckets collide, 5,120 hardly do. Only the model's side of the spec changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from tools.comparison.statistics import Resampling
from tools.report.page import Section
from tools.scaling.declare import EQUIVALENT, HIGHER, Arm, Axis, Contrast, Edits, Finding, Setup, Study, change
from tools.scaling.figures import curves
from tools.scaling.gains import gains
from tools.scaling.paper import TABLE_3
from tools.scaling.results import Results
from tools.scaling.status import UNTESTABLE, Judged

DIMS, BUCKETS = (4, 8, 16, 32), {1: 512, 10: 5120}
TOKENS = {"title": (8, 16), "query_text": (8, 16, 32)}
FLAGS = (("backbone", "masknet"),)


def _item(vocabulary: int, dim: int) -> tuple[str, Edits]:
    return f"item {vocabulary}x, dim {dim}", (("tables.item.buckets", BUCKETS[vocabulary]), ("tables.item.dim", dim))


def _tokens(feature: str, dim: int) -> tuple[str, Edits]:
    """A table of their own for title and query, one of them with another dimension."""
    edits: list[tuple[str, object]] = []
    for name in TOKENS:
        own = {"buckets": 8192, "dim": dim if name == feature else 8}
        edits += [(f"features.{name}.table", None), (f"features.{name}.embedding", own)]
    return "tokens dim 8" if dim == 8 else f"{feature} dim {dim}", (*edits, ("tables.ngram", None))


def declare(setup: Setup) -> Study:
    """The grid of Table 3; in a full study also query and title."""
    arms, paper, axes = {}, {}, []
    for vocabulary in BUCKETS:
        levels = []
        for dim, gain in setup.of(tuple(zip(DIMS, TABLE_3[vocabulary], strict=True))):
            name, edits = _item(vocabulary, dim)
            arms[name] = Arm(name, "masknet", FLAGS, edits=edits)
            paper[name] = f"{gain:+.2f} %"
            levels.append((float(dim), name))
        axes.append(Axis(f"item dim, {vocabulary}x", tuple(levels), levels[0][0], setup.of(TABLE_3[vocabulary])))
    for feature, dims in () if setup.quick else TOKENS.items():
        named = [(float(dim), *_tokens(feature, dim)) for dim in dims]
        arms.update({name: Arm(name, "masknet", FLAGS, edits=edits) for _, name, edits in named})
        axes.append(Axis(f"{feature} dim", tuple((dim, name) for dim, name, _ in named), 8.0))
    reference = axes[0].levels[0][1]
    return Study("embedding", "Embedding scaling", reference, tuple(arms.values()), tuple(axes), {"masknet": reference}, paper=paper)


def contrasts(study: Study, results: Results) -> list[Contrast]:
    """R61 dimension against vocabulary, R62 their interaction, R64 query and title."""
    del results
    narrow, wide = ([name for _, name in axis.levels] for axis in study.axes[:2])
    interaction = ((wide[-1], 1.0), (narrow[-1], -1.0), (wide[0], -1.0), (narrow[0], 1.0))
    found = [
        Contrast(f"{narrow[1]} less {wide[0]}", change(wide[0], narrow[1]), HIGHER, "R61", "+0.03 %"),
        Contrast("ten times the vocabulary", change(narrow[0], wide[0]), paper="+0.02 %"),
        Contrast("dimension by vocabulary", interaction, EQUIVALENT, "R62", "+0.02 %", "nulls"),
    ]
    known = {arm.name for arm in study.arms}
    nulls = [("query_text dim 16", "query_text dim 32", "plateau"), ("tokens dim 8", "title dim 16", "no gain")]
    found += [Contrast(f"{b} less {a}", change(a, b), EQUIVALENT, "R64", paper, "nulls") for a, b, paper in nulls if b in known]
    if "query_text dim 16" in known:
        found.append(Contrast("query dimension doubled", change("tokens dim 8", "query_text dim 16"), paper="+0.03 %"))
    return found


def findings(study: Study, results: Results, how: Resampling) -> list[Finding]:
    """What the log cannot show."""
    del study, results, how
    return [Finding("R63", UNTESTABLE, "synthetic logs have one law of popularity, which is not varied")]


def sections(study: Study, results: Results, judged: Sequence[Judged]) -> list[Section]:
    """Gain by dimension, a line per vocabulary."""
    lines = {axis.name: gains(results, judged, axis.levels, axis.paper) for axis in study.axes}
    figure = curves({"": lines}, "dimension", f"mAP, change in % of {study.reference}")
    return [Section("Gain by dimension", figure=figure, note="Dashed: the paper's Table 3, whose dimensions are four times ours.")]
