"""The page and the Markdown of a study: status words, claims, arms beside the paper's numbers, plots."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.report.page import Page, Section, render
from tools.scaling import figures
from tools.scaling.declare import Finding
from tools.scaling.results import Results, relative
from tools.scaling.status import DIRECTION, EXACT, Judged

ARMS = "arms"
"""The table of every arm against the reference."""


@dataclasses.dataclass(frozen=True)
class Report:
    """All that is shown. `command` makes it again; `about` says on what it was measured."""

    title: str
    command: str
    about: str
    margin: float
    sections: tuple[Section, ...] = ()
    tiles: tuple[tuple[str, str, str], ...] = ()

    def html(self) -> str:
        """One page that needs no other file."""
        note = Section("Make it again", note=self.command)
        return render(Page(self.title, self.about, self.tiles, (*self.sections, note)))

    def markdown(self) -> str:
        """The same without plots."""
        parts = [f"# {self.title}\n\n{self.about}\n"]
        parts += [_markdown(section) for section in self.sections if section.rows]
        return "\n".join([*parts, f"Made by:\n\n    {self.command}\n"])


def _markdown(section: Section) -> str:
    lines = [f"## {section.title}\n", f"{section.intro}\n" if section.intro else ""]
    lines += [f"| {' | '.join(section.head)} |", "|" + "---|" * len(section.head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in section.rows]
    return "\n".join([*lines, f"\n{section.note}" if section.note else "", ""])


def make_report(results: Results, judged: Sequence[Judged], found: Sequence[Finding], more: Iterable[Section], how: Report) -> Report:
    """Fills a report's sections and tiles."""
    claims = [one for one in judged if one.contrast.table != ARMS]
    arms = [one for one in judged if one.contrast.table == ARMS]
    sections = [findings_section(found), *more]
    if claims:
        sections.append(_claims(claims, how.margin))
    sections.append(_arms(results, arms))
    return dataclasses.replace(how, sections=tuple(sections), tiles=_tiles(results, judged, found))


def _tiles(results: Results, judged: Sequence[Judged], found: Sequence[Finding]) -> tuple[tuple[str, str, str], ...]:
    best = max(results.values, key=results.map)
    good = sum(one.word in (EXACT, DIRECTION) for one in found)
    seeds, lists = results.values[best].shape
    gain = relative(results.map(best) - results.map(results.study.reference), results.map(results.study.reference))
    typical = sorted(one.row.found.mde for one in judged)[len(judged) // 2]
    return (
        ("reproduced", f"{good} of {len(found)}", "requirements of this study, exactly or in direction"),
        ("arms", str(len(results.values)), f"{seeds} seeds each, {lists:,} test lists"),
        ("highest test mAP", f"{results.map(best):.4f}", f"{best}: {gain:+.2f} % (the highest of many: optimistic)"),
        ("detectable", f"{typical:.4f}", "median difference in mAP found with 80 % power"),
    )


def findings_section(found: Sequence[Finding]) -> Section:
    """The table of status words."""
    rows = [(one.requirement, f"{one.word}: {one.why}") for one in found]
    intro = "Every requirement that this study speaks to, declared before it ran. What is undecided counts as not reproduced."
    return Section("Status", intro, ("requirement", "status and evidence, in mAP"), rows)


def _claims(judged: Sequence[Judged], margin: float) -> Section:
    rows = []
    for one in judged:
        found, (low, high) = one.row.found, one.row.found.interval
        tests = (f"{one.row.p:.4f}", f"{one.row.p_equivalent:.4f}", f"{found.mde:.4f}")
        paper = ", ".join(filter(None, (one.contrast.claim, one.contrast.paper))) or "-"
        errors = f"{found.se_lists:.4f}, {found.se_seeds:.4f}"
        rows.append((one.contrast.name, f"{found.difference:+.4f} [{low:+.4f}, {high:+.4f}]", errors, *tests, paper, one.row.verdict))
    head = ("claim", "mAP [95 % interval]", "se: lists, seeds", "p", "p equivalent", "detectable", "the paper", "found")
    names = [one.contrast.name for one in judged]
    values, intervals = [one.row.found.difference for one in judged], [one.row.found.interval for one in judged]
    figure = figures.claims(names, values, intervals, margin, f"mAP, 95 % interval; grey: ±{margin:g}")
    how = f"Equivalent: within ±{margin:g}, two one-sided tests. P-values corrected by Holm among claims of a kind."
    intro = f"Differences in mAP; slopes are per doubling. {how}"
    return Section("Claims", intro, head, rows, figure)


def _arms(results: Results, judged: Sequence[Judged]) -> Section:
    by_arm = {one.contrast.name: one for one in judged}
    head = ("arm", "test mAP", "change % [95 % interval]", "p", "detectable %", "the paper", "FLOPs per item", "parameters", "table bytes",
            "items/s (ratio)")  # fmt: skip
    reference = results.study.reference
    rows = []
    for arm in results.study.evaluated:
        one, speed = by_arm.get(arm.name), results.cost(arm.name, "items_per_second_train")
        change = ("reference", "", "")
        if one:
            found, (low, high) = one.row.found, one.row.found.relative_interval
            change = (f"{100 * found.relative:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]", f"{one.row.p:.4f}",
                      f"{relative(found.mde, found.reference):.2f}")  # fmt: skip
        costs = tuple(f"{results.cost(arm.name, name):,.0f}" for name in ("flops_per_item", "parameters", "embedding_bytes"))
        ratio = speed / results.cost(reference, "items_per_second_train")
        rows.append((arm.name, f"{results.map(arm.name):.4f}", *change, results.study.paper.get(arm.name, "-"), *costs,
                     f"{speed:,.0f} ({ratio:.2f})"))  # fmt: skip
    note = "items/s are of whole trainings on this machine, one after the other or side by side: a hint, no benchmark."
    return Section("Arms", f"Relative change of test mAP to {reference}; p-values corrected by Holm.", head, rows, note=note)


def write(report: Report, folder: Path) -> None:
    """`report.html` and `table.md`, and each plot that is SVG under `plots/`."""
    (folder / "report.html").write_text(report.html(), encoding="utf-8")
    (folder / "table.md").write_text(report.markdown(), encoding="utf-8")
    (folder / "plots").mkdir(exist_ok=True)
    for section in report.sections:
        if section.figure.startswith("<svg"):
            (folder / "plots" / f"{section.title.lower().replace(' ', '_')}.svg").write_text(section.figure, encoding="utf-8")
