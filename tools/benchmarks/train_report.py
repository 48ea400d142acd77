"""The report of `tools.benchmarks.train`: read back, judged, and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.benchmarks import train_peer_report
from tools.benchmarks.command import read_report
from tools.benchmarks.goals import Goal
from tools.benchmarks.summary import Spread
from tools.benchmarks.tables import goal_rows, spread, table
from tools.benchmarks.train_steps import Timing

CELL_HEAD = ("backbone", "precision", "MFLOP/item", "items/s", "ms/step", "GFLOP/s", "of products", "around", "tables", "Adam", "faults")
SLOW_HEAD = ("product", "of", "a step has", "ms", "GFLOP/s")
_PRODUCTS = {"1k": 75.0, "2k": 85.0}
_AROUND = 10.0


def percent(found: Spread) -> Spread:
    """A share in percent."""
    return Spread(100 * found.median, 100 * found.least, 100 * found.most)


def goals(timings: Sequence[Timing]) -> list[Goal]:
    """What is wanted of MaskNet at the paper's cross widths; medians of the turns."""
    found = {(t.backbone, t.size, t.precision): t for t in timings}
    wanted = []
    for precision in dict.fromkeys(t.precision for t in timings if t.backbone == "masknet"):
        for size, share in _PRODUCTS.items():
            timing = found.get(("masknet", size, precision))
            reached = 100 * timing.share("products", "full").median if timing else None
            wanted.append(Goal(f"MaskNet {size} {precision}: of the speed of its products alone", ">=", share, "%", reached))
        for size in (*_PRODUCTS, "4k"):
            timing = found.get(("masknet", size, precision))
            around = 100 * timing.around.median if timing else None
            wanted.append(Goal(f"MaskNet {size} {precision}: embeddings and optimizers", "<=", _AROUND, "%", around))
    return wanted


def all_goals(found: Mapping[str, Any]) -> list[Goal]:
    """Those of all parts that a report has."""
    peers = train_peer_report.goals(train_peer_report.variants_of(found), train_peer_report.dense_of(found))
    return [*goals(timings_of(found)), *peers]


def timings_of(found: Mapping[str, Any]) -> list[Timing]:
    """The results of a report."""
    return [Timing(**entry) for entry in found["cells"]]


def cell_rows(timings: Sequence[Timing]) -> list[Sequence[str]]:
    """One row per cell; rates and shares are of the whole step."""
    return [_cell_row(t) for t in timings]


def _cell_row(t: Timing) -> Sequence[str]:
    whole = t.spread("full")
    tables = Spread.of([1 - dense / full for dense, full in zip(t.ms["dense"], t.ms["full"], strict=True)])
    adam = Spread.of([
        (dense - gradients) / full for dense, gradients, full in zip(t.ms["dense"], t.ms["gradients"], t.ms["full"], strict=True)
    ])  # fmt: skip
    return (
        f"{t.backbone} {t.size}",
        t.precision,
        f"{t.flops / 3 / t.items / 1e6:,.1f}",
        f"{t.items / whole.median * 1e3:,.0f}",
        spread(whole, digits=1),
        f"{t.flops / whole.median / 1e6:,.0f}",
        spread(percent(t.share("products", "full"))) + " %",
        spread(percent(t.around)) + " %",
        f"{100 * tables.median:.0f} %",
        f"{100 * adam.median:.0f} %",
        f"{t.faults:,.0f}",
    )


def slow_rows(timings: Sequence[Timing]) -> list[Sequence[str]]:
    """The products that take most of each cell's step."""
    return [
        (product, f"{t.backbone} {t.size}", f"{count}", f"{ms:,.3f}", f"{speed:,.0f}")
        for t in timings
        for product, count, ms, speed in t.slowest
    ]


def described(found: Mapping[str, Any]) -> str:
    """Where and how a report was measured."""
    on, made = found["machine"], found["settings"]
    known = found["versions"] | ({"torch": found["torch"]["version"]} if "version" in found["torch"] else {})
    return "\n".join((
        f"{found['created']}, {on['processor']}, {made['threads']} threads, {on['memory_gib']} GiB; "
        f"load average before {found['load']:.1f}.",
        ", ".join(f"{name} {version}" for name, version in known.items()) + ".",
        f"{made['lists']} lists of 32 items a step, head {made['experts']} x {made['expert_width']}, table of items {made['rows']:,} x "
        f"{made['dim']}; medians (least-greatest) of {made['repeats']} turns of up to {made['steps']} steps; "
        f"peak of the process {found['peak_gib']} GiB.",
    ))  # fmt: skip


def shown(found: Mapping[str, Any], markdown: bool, products: bool) -> str:
    """A report as text."""
    timings = timings_of(found)
    parts = [described(found), table(CELL_HEAD, cell_rows(timings), markdown)] if timings else [described(found)]
    if products and timings:
        parts.append(table(SLOW_HEAD, slow_rows(timings), markdown))
    parts += train_peer_report.tables(found, markdown)
    parts.append(table(("goal", "wanted", "reached", ""), goal_rows(all_goals(found)), markdown))
    return "\n\n".join(parts)


def read(path: Path) -> dict[str, Any]:
    """Reads a report. Raises CvrError where the file is none."""
    return read_report(path, "train")
