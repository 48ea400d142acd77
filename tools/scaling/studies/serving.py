"""Serving (Table 6, Figure 6): peak load within a latency limit by batch timeout, found by `tools.load_test --sweep_timeouts`."""

from __future__ import annotations

from typing import Any

from tools.report.page import Section
from tools.scaling.declare import Finding
from tools.scaling.followed import Options, picture
from tools.scaling.status import DIRECTION, NOT, UNTESTABLE
from tools.serving.sweep import PAPER, table6_head
from tools.studies.jobs import Command

TITLE = "Serving"
QUICK = (0, 10)


def command(options: Options) -> Command:
    """The sweep over the paper's timeouts; a quick one over two, with short phases."""
    folder, timeouts = options.output, QUICK if options.quick else tuple(PAPER)
    words = ["tools.load_test", f"--export={options.need('export', 'serving')}", f"--threads={max(1, options.threads)}"]
    words += [f"--sweep_timeouts={','.join(map(str, timeouts))}", f"--json={folder / 'sweep.json'}", f"--plot={folder / 'sweep.svg'}"]
    words += [f"--lists={options.lists}"] if options.lists else []
    words += ["--seconds=1", "--warm_up=0.2", "--repeats=1", "--tolerance=1.5"] if options.quick else []
    return Command(tuple(words), folder / "sweep.json")


def findings(result: dict[str, Any]) -> list[Finding]:
    """R81: within each limit the highest peak is at a timeout inside the range, above that of no wait and of the longest."""
    results, limits = result["results"], result["settings"]["limits_ms"]
    told, inside = [], []
    for place, limit in enumerate(limits):
        peaks = {entry["timeout_ms"]: entry["peaks"][place]["items_per_second"] for entry in results}
        best = max(peaks, key=peaks.__getitem__)
        inside.append(min(peaks) < best < max(peaks))
        told.append(f"P99 within {limit:g} ms: highest at {best:g} ms with {peaks[best]:,.0f} items/s, {peaks[min(peaks)]:,.0f} at 0 ms")
    why = "; ".join(told) + "; the paper's are highest at 5 and 10 ms"
    return [
        Finding("R81", DIRECTION if all(inside) else NOT, why),
        Finding("R83", UNTESTABLE, "P99 of an unoptimised and an optimised GPU needs one; tools.benchmarks has the steps of a GPU apart"),
    ]


def report(result: dict[str, Any], options: Options) -> tuple[list[Finding], list[Section]]:
    """Table 6, ours beside the paper's."""
    rows = [tuple(entry["row"]) for entry in result["results"]]
    note = "The paper's figures are of its GPU and model. * where the load generator may have been the limit."
    head, figure = table6_head(result["settings"]["limits_ms"]), picture(options.output / "sweep.svg")
    section = Section("Peak by batch timeout", head=head, rows=rows, figure=figure, note=note)
    return findings(result), [section]
