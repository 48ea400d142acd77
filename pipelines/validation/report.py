"""The page and the terminal's view of a validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.validation import day_figures, figures, tables
from pipelines.validation.page import Page, Section, Tile, render
from pipelines.validation.verdict import Verdict

_MARKS = {"pass": "ok  ", "warn": "WARN", "fail": "FAIL", "skip": "skip"}
_ORDER = {"fail": 0, "warn": 1, "skip": 2, "pass": 3}
_PANELS = 40

Document = dict[str, Any]


def summary_of(verdict: Verdict) -> str:
    """A few lines: what was read, what labels and leaks say, every check that did not pass with its first examples, and the verdict."""
    lines = []
    for split, found in verdict.document["splits"].items():
        labels = ", ".join(f"{task} {count:,}" for task, count in found["labels"].items())
        lines.append(
            f"{split}: {found['lists']:,} lists, {found['items']:,} items, {len(found['coverage'])} days, labels: {labels}"
        )
    for check in verdict.checks:
        if check.status != "pass" or check.area in ("labels", "leaks"):
            lines.append(f"{_MARKS[check.status]}  {check.name}: {check.finding}")
            lines += [f"        {example}" for example in check.examples[:3]]
    return "\n".join([*lines, f"{'FAILED' if verdict.exit_code else 'PASSED'}: {_told(verdict)}"])


def _told(verdict: Verdict) -> str:
    counts = {status: sum(check.status == status for check in verdict.checks) for status in _MARKS}
    return (
        f"{counts['pass']} checks passed, {counts['warn']} warnings, {counts['fail']} failed, {counts['skip']} skipped"
    )


def page_of(verdict: Verdict) -> str:
    """The page's HTML."""
    document = verdict.document
    makers: list[Callable[[Document], list[Section]]] = [
        _lists,
        _entire_space,
        _leaks,
        _funnel,
        _positions,
        _delays,
        _coverage,
        _drift,
        _features,
        _baseline,
        _origin,
    ]
    sections = [section for maker in makers for section in maker(document)] if document["splits"] else _origin(document)
    not_passed = sorted(
        (check for check in verdict.checks if check.status != "pass"), key=lambda check: _ORDER[check.status]
    )
    passed = [check for check in verdict.checks if check.status == "pass"]
    subtitle = f"{document['lists']}, built {document['built']}, validated {document['validated']}"
    return render(
        Page(f"Validation of {document['dataset']} lists", subtitle, _tiles(verdict), not_passed, passed, sections)
    )


def _tiles(verdict: Verdict) -> list[Tile]:
    counts = {status: sum(check.status == status for check in verdict.checks) for status in _MARKS}
    state = "fail" if verdict.exit_code else "warn" if counts["warn"] else "pass"
    splits = verdict.document["splits"].values()
    days = {day for found in splits for day in found["coverage"]}
    remark = f"{counts['fail']} failed, {counts['warn']} warnings, {counts['skip']} skipped, {counts['pass']} passed"
    return [
        Tile("verdict", "failed" if verdict.exit_code else "passed", remark, state),
        Tile("lists", f"{sum(found['lists'] for found in splits):,}", f"in {len(splits)} splits"),
        Tile("items", f"{sum(found['items'] for found in splits):,}", "shown in them"),
        Tile("days", f"{len(days):,}", f"{min(days)} to {max(days)}" if days else "none could be read"),
    ]


def _lists(document: Document) -> list[Section]:
    splits = document["splits"]
    note = "Items per list: smallest · median · largest. A list with the label on all items has average precision 1 in any order."
    figure = figures.lengths_figure({name: found["list_lengths"] for name, found in splits.items()})
    return [Section("Lists", "", figure, [tables.split_table(splits)], note)]


def _entire_space(document: Document) -> list[Section]:
    if not document["es3"]:
        return []
    note = "Of training lists only: un-exposed items, labels from other domains by tier, lists of other domains by the tier of their query."
    return [Section("Entire space", "", "", [tables.counts_table(document["es3"])], note)]


def _funnel(document: Document) -> list[Section]:
    splits = document["splits"]
    intro = "Labels per shown item by day. Rates of a split that was built without unconverted lists are not those of the log."
    note = "Tasks in the spec's order; an item may have a label without that of the step before, as windows differ and logs lose events."
    figure = figures.funnel_figure({name: found["funnel"]["days"] for name, found in splits.items()})
    return [Section("Funnel", intro, figure, [tables.funnel_table(splits)], note)]


def _positions(document: Document) -> list[Section]:
    splits = document["splits"]
    tasks = list(next(iter(splits.values()))["labels"])
    curves = {task: {name: found["positions"][task] for name, found in splits.items()} for task in tasks}
    intro = f"Share of shown items with the label, with 95 % Wilson intervals; positions shown at least {figures.MIN_SHOWN} times."
    note = (
        "mAP over lists with the label; items of equal popularity count as one step (scikit-learn's average precision)."
    )
    return [Section("Position", intro, figures.positions_figure(curves), [tables.order_table(splits)], note)]


def _delays(document: Document) -> list[Section]:
    if not document["delays"]:
        return []
    texts = [check["finding"] for check in document["checks"] if check["name"].endswith(": window")]
    intro = (
        "How long after the impression the credited engagements of the log came, whatever the window; "
        + "; ".join(texts)
        + "."
    )
    note = (
        "Engagements after the log's end are not in the log, and late ones of late impressions are among them, so a window cuts off more "
        "than is counted. The second figure weights each delay by how likely it fell inside the log, which is right for even traffic."
    )
    instant = all(found["curve"][-1][0] == 0 and not found["window"] for found in document["delays"].values())
    if instant:
        return [
            Section(
                "Label delays", "The log gives engagements the time of their impression: all delays and windows are 0."
            )
        ]
    return [Section("Label delays", intro, figures.delays_figure(document["delays"]), note=note)]


def _leaks(document: Document) -> list[Section]:
    splits, threshold = document["splits"], document["thresholds"]["leak_auc"]
    split = "train" if "train" in splits else next(iter(splits))
    scores = {task: found for task, found in splits[split]["leaks"].items() if found}
    if not scores:
        return []
    intro = (
        f"How well each stored feature alone orders the items of a list ({split}): mean AUC within lists, with 95 % intervals. One whose "
        f"interval lies above {threshold:g} (dashed) is computed with what happened after the impression."
    )
    return [Section("Single features", intro, figures.leaks_figure(scores, threshold), [tables.leak_table(splits)])]


def _coverage(document: Document) -> list[Section]:
    figure = day_figures.coverage_figure({name: found["coverage"] for name, found in document["splits"].items()})
    steps = [f"{step['feature']} {step['step']} on {step['day']}" for step in document["launches"]]
    note = f"Steps: {'; '.join(steps)}." if steps else "No feature is launched or withdrawn."
    return [Section("Coverage", "Share of values that are there, by feature and day.", figure, note=note)]


def _drift(document: Document) -> list[Section]:
    rows = [{"split": group, **row} for group, found in document["drift"].items() for row in found]
    columns = [(name, day) for name, found in document["splits"].items() for day in found["coverage"]]
    by_day = [row for row in rows if row["kind"] == "other days"]
    if not rows:
        return []
    intro = (
        "Jensen-Shannon divergence of a feature's distribution on a day from the other days of its split, less what chance gives for "
        f"so many lists; 1 bit is the most, {document['thresholds']['drift']:g} above chance warns."
    )
    figure = day_figures.drift_figure(by_day, columns, document["thresholds"]["drift"]) if by_day else ""
    note = "Counts without a window grow with the log, and rates begin at their prior: give them a window, or start training later."
    return [Section("Drift", intro, figure, [tables.drift_table(rows)], note)]


def _features(document: Document) -> list[Section]:
    splits = document["splits"]
    names = [n for n, row in next(iter(splits.values()))["features"]["all"].items() if "numbers" in row]
    figure = day_figures.courses_figure(
        {name: found["features"]["days"] for name, found in splits.items()}, names[:_PANELS]
    )
    folded = [
        maker(found["features"]["all"], f"{name}: {what}", name == "train")
        for name, found in splits.items()
        for maker, what in ((tables.number_table, "numbers and lengths"), (tables.id_table, "ids"))
    ]
    more = f" The first {_PANELS} of {len(names)} are drawn." if len(names) > _PANELS else ""
    intro = f"Median and middle 90 % of each numerical feature by day.{more} Quantiles are within 1 %, distinct ids within about 3 %."
    return [Section("Features", intro, figure, folded)]


def _baseline(document: Document) -> list[Section]:
    if "baseline" not in document:
        return []
    found = document["baseline"]
    rows = [
        [f"{split}: {name}", tables.number((pair["before"] or {}).get(name)), tables.number(value)]
        for split, pair in found["volumes"].items()
        for name, value in pair["now"].items()
    ]
    drifts = [row for drifts in found["drift"].values() for row in drifts]
    return [
        Section(
            "Baseline",
            f"Against {found['folder']}.",
            "",
            [tables.Table(["", "before", "now"], rows), tables.drift_table(drifts)],
        )
    ]


def _origin(document: Document) -> list[Section]:
    keys = ("lists", "dataset", "built", "validated", "data_fingerprint", "spec_fingerprint")
    rows = [[key.replace("_", " "), str(document[key])] for key in keys]
    rows += [[f"threshold {name}", str(value)] for name, value in document["thresholds"].items()]
    return [Section("Where it comes from", "", "", [tables.Table(["", ""], rows)])]
