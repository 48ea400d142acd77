"""Feature importance (Table 2): `tools.importance` on trained runs of one configuration, the shares beside the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.report.page import Section
from tools.scaling.declare import Finding
from tools.scaling.followed import Options, picture
from tools.scaling.paper import TABLE_2
from tools.scaling.status import MECHANISM
from tools.studies.backbones import read
from tools.studies.jobs import Command

TITLE = "Feature importance"
FAMILIES = Path("configs/importance/synthetic.yaml")


def command(options: Options) -> Command:
    """The measurement on the validation split; a quick one on 200 lists."""
    words = ["tools.importance", f"--run={options.need('run', 'importance')}", f"--lists={options.need('lists', 'importance')}"]
    words += [f"--output={options.folder}", f"--families={FAMILIES}", f"--replicates={options.replicates}"]
    return Command((*words, *(["--max_lists=200"] if options.quick else [])), options.folder / "importance.json")


def report(result: dict[str, Any], options: Options) -> tuple[list[Finding], list[Section]]:
    """Shares of customer x engagement and customer x understanding, first order by family."""
    backbone = read(Path(next(iter(result["runs"]))) / "run.json")["model"]["backbone"]
    paper = dict(zip(("engagement", "understanding"), TABLE_2[backbone], strict=True)) if backbone in TABLE_2 else {}
    rows = []
    for double in result["found"]["table2"]:
        category = double["names"][1]
        shares = [_share(double[name]) if name in double else "-" for name in ("joint_share", "interaction_share")]
        published = f"{paper[category]:.2f} %" if category in paper else "-"
        rows.append((f"{double['shuffle']}: {' x '.join(double['names'])}", *shares, published))
    head = ("pair, by shuffle", "share of joint importance", "share of interaction", f"the paper's {backbone}")
    why = "; ".join(f"{row[0]} {row[1]} (the paper {row[3]})" for row in rows) or "no pair of Table 2 was measured"
    found = [Finding("R60b", MECHANISM, f"{why}; shares belong to the features of a data set")]
    figure = picture(options.folder / "families.png")
    return found, [Section("Table 2", "Shares sum to 100 % over both categories.", head, rows), Section("Families", figure=figure)]


def _share(share: dict[str, Any]) -> str:
    if share["value"] is None:
        return "- (no drop in either category)"
    low, high = share["interval"]
    return f"{100 * share['value']:.1f} % [{100 * low:.1f}, {100 * high:.1f}], detectable {100 * share['mde']:.1f}"
