"""Warm starts (section 4.5): `tools.study_warm_start`, its results as requirements."""

from __future__ import annotations

from typing import Any

from tools.report.page import Section
from tools.scaling.declare import Finding
from tools.scaling.followed import Options, picture
from tools.scaling.status import DIRECTION, MECHANISM, NOT
from tools.studies.jobs import Command
from tools.studies.warm_start_cost import PAPER_COLD, PAPER_WARM, Costs

TITLE = "Warm starts"


def command(options: Options) -> Command:
    """All of its runs; it can be interrupted."""
    words = ["tools.study_warm_start", f"--output={options.folder}", f"--base={options.base}", f"--margin={options.margin}"]
    words += [f"--parallel={options.parallel}", f"--threads={options.threads}", f"--replicates={options.replicates}"]
    return Command((*words, *(["--quick"] if options.quick else [])), options.folder / "study.json")


def _text(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['system']} less {row['reference']} {row['difference']:+.4f} [{low:+.4f}, {high:+.4f}] (detectable {row['mde']:.4f})"


def findings(result: dict[str, Any]) -> list[Finding]:
    """R73 non-inferior, R76 equivalent, R77 a chain of warm starts drifts, R78 costs."""
    warm = next(row for row in result["arms"] if (row["reference"], row["system"]) == ("scratch", "warm"))
    margin = result["margin"]
    drifts = [f"{one['arm']} {one['change']:+.4f} [{one['interval'][0]:+.4f}, {one['interval'][1]:+.4f}]" for one in result["drift"]]
    drifting = any(one["interval"][1] < 0 for one in result["drift"])
    unit = {name: value for name, value in result["costs"]["FLOPs"].items() if name != "break_even"}
    costs, launches = Costs(**unit), result["size"]["launches"]
    cold, warmed = costs.cold_overhead, costs.warm_overhead(launches)
    overhead = f"cold {cold:+.0%} (the paper {PAPER_COLD:+.0%}), warm {warmed:+.0%} ({PAPER_WARM:+.0%})"
    return [
        Finding("R73", DIRECTION if warm["interval"][0] > -margin else NOT, f"{_text(warm)}; not worse by {margin:g}"),
        Finding("R76", DIRECTION if "equivalent" in warm["verdict"] else NOT, f"{_text(warm)}: {warm['verdict']}"),
        Finding("R77", DIRECTION if drifting else NOT, f"drift against training from scratch, first launch to last: {'; '.join(drifts)}"),
        Finding("R78", MECHANISM, f"{overhead}, in FLOPs, a base for {launches} launches; the paper states neither m nor its baseline"),
    ]


def report(result: dict[str, Any], options: Options) -> tuple[list[Finding], list[Section]]:
    """The requirements, and every comparison of the study."""
    head = ("launch", "arm", "against", "mAP [95 % interval]", "p", "p equivalent", "detectable", "found")
    rows = []
    for row in (*result["arms"], *result["chain"]):
        low, high = row["interval"]
        tests = (f"{row['p_corrected']:.4f}", f"{row['p_equivalent_corrected']:.4f}", f"{row['mde']:.4f}")
        difference = f"{row['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        rows.append((row["slice"], row["system"], row["reference"], difference, *tests, row["verdict"]))
    figure = picture(options.folder / "warm_start.png")
    return findings(result), [Section("Differences", "Arms are explained in docs/modelers.md.", head, rows, figure)]
