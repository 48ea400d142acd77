"""What `tools.benchmarks.train` found of layouts, pipelines and PyTorch: judged, and as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.benchmarks.goals import Goal
from tools.benchmarks.summary import Spread
from tools.benchmarks.tables import spread, table
from tools.benchmarks.train_lists import Variant
from tools.benchmarks.train_torch import DenseTiming

SAVED_HEAD = ("layout, context part", "precision", "rows/item", "items/s", "ms/step", "of packed, per list")
PIPELINE_HEAD = ("pipeline", "precision", "rows/item", "items/s", "s/pass", "ours faster")
TORCH_HEAD = ("dense network", "precision", "items/s", "ms/step", "GFLOP/s", "ours faster")
_PIPELINES = {"ours": "ours", "tf_ranking": "TF-Ranking style"}
_MODES = {"ours": "ours", "eager": "PyTorch, eager", "compiled": "PyTorch, compiled"}
_WANTED = {"float32": 1.9, "mixed_bfloat16": 1.0}


def variants_of(found: Mapping[str, Any]) -> list[Variant]:
    """Layouts and pipelines of a report."""
    return [Variant(**entry) for entry in found["lists"]]


def dense_of(found: Mapping[str, Any]) -> list[DenseTiming]:
    """The dense networks of a report."""
    return [DenseTiming(**entry) for entry in found["dense"]]


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Of two times, turn by turn."""
    return Spread.of([one / other for one, other in zip(above, below, strict=True)])


def goals(variants: Sequence[Variant], dense: Sequence[DenseTiming]) -> list[Goal]:
    """What is wanted beside peers; PyTorch's faster mode counts. Medians of the ratios of each turn."""
    times = {(v.comparison, v.name, v.precision): v.times for v in variants}
    precisions = dict.fromkeys([*(v.precision for v in variants), *(t.precision for t in dense)])
    found = []
    for precision in precisions:
        ours, theirs = (times.get(("pipelines", name, precision)) for name in ("ours", "tf_ranking"))
        faster = ratio(theirs, ours).median if ours and theirs else None
        found.append(Goal(f"whole pipeline, {precision}: faster than TF-Ranking style", ">=", 4.0, "x", faster))
    for precision in precisions:
        ms = {t.mode: t.ms for t in dense if t.precision == precision and t.ms}
        reached = [ratio(ms[mode], ms["ours"]).median for mode in ("eager", "compiled") if mode in ms]
        found.append(Goal(f"dense network, {precision}: faster than PyTorch", ">=", _WANTED[precision], "x", min(reached, default=None)))
    return found


def _layouts(variants: Sequence[Variant], comparison: str, row: Callable[[Variant, Variant], Sequence[str]]) -> list[Sequence[str]]:
    """A row of each variant beside the first of its precision."""
    first: dict[str, Variant] = {}
    chosen = [v for v in variants if v.comparison == comparison]
    return [row(v, first.setdefault(v.precision, v)) for v in chosen]


def saved_rows(variants: Sequence[Variant]) -> list[Sequence[str]]:
    """A row per layout: how much longer its step takes than that of packed lists with the context part once per list."""

    def row(v: Variant, base: Variant) -> Sequence[str]:
        of_base = "" if v is base else spread(ratio(v.times, base.times), digits=2)
        rate = f"{v.items / v.spread.median * 1e3:,.0f}"
        return v.name, v.precision, f"{v.rows / v.items:.2f}", rate, spread(v.spread, digits=1), of_base

    return _layouts(variants, "saved", row)


def pipeline_rows(variants: Sequence[Variant]) -> list[Sequence[str]]:
    """A row per pipeline."""

    def row(v: Variant, ours: Variant) -> Sequence[str]:
        faster = "" if v is ours else spread(ratio(v.times, ours.times), digits=2) + " x"
        rate = f"{v.items / v.spread.median:,.0f}"
        return _PIPELINES[v.name], v.precision, f"{v.rows / v.items:.2f}", rate, spread(v.spread, digits=1), faster

    return _layouts(variants, "pipelines", row)


def dense_rows(dense: Sequence[DenseTiming]) -> list[Sequence[str]]:
    """A row per library, mode and precision; what could not run says why."""
    ours = {t.precision: t.ms for t in dense if t.mode == "ours"}
    rows: list[Sequence[str]] = []
    for t in dense:
        if not t.ms:
            rows.append((_MODES[t.mode], t.precision, "", "", "", t.missing))
            continue
        faster = "" if t.mode == "ours" else spread(ratio(t.ms, ours[t.precision]), digits=2) + " x"
        median = t.spread.median
        speed = (f"{t.items / median * 1e3:,.0f}", spread(t.spread, digits=1), f"{t.flops / median / 1e6:,.0f}")
        rows.append((_MODES[t.mode], t.precision, *speed, faster))
    return rows


def tables(found: Mapping[str, Any], markdown: bool) -> list[str]:
    """The tables of what was measured, and a line where PyTorch is absent."""
    variants, dense = variants_of(found), dense_of(found)
    parts = [
        (SAVED_HEAD, saved_rows(variants)),
        (PIPELINE_HEAD, pipeline_rows(variants)),
        (TORCH_HEAD, dense_rows(dense)),
    ]
    shown = [table(head, rows, markdown) for head, rows in parts if rows]
    return [*shown, found["torch"]["absent"]] if "absent" in found["torch"] else shown
