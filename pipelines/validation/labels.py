"""What labels say: the funnel of tasks, engagement by position, and how long engagements take against the window."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvr.schema import FeatureSpec
from pipelines.settings import format_time
from pipelines.validation.intervals import mean_interval, wilson
from pipelines.validation.merging import Partial
from pipelines.validation.results import Check, Figures

Row = dict[str, Any]


def funnel(spec: FeatureSpec, partial: Partial) -> list[Row]:
    """One row per task in the spec's order, over shown items.

    `labels`, `rate` of items, `lists` with one and their `list_rate`; `of_previous` the share of the previous task's items that have this
    label too; `without_previous` labels whose item has no label of the previous task.
    """
    patterns = {int(pattern): count for pattern, count in partial["patterns"].items()}
    rows: list[Row] = []
    for place, task in enumerate(spec.task_names):
        labels = sum(count for pattern, count in patterns.items() if pattern >> place & 1)
        lists = partial["lists_with"][task]
        row: Row = {"task": task, "labels": labels, "rate": labels / partial["items"]}
        row |= {"lists": lists, "list_rate": lists / partial["lists"], "of_previous": None, "without_previous": None}
        if place:
            both = sum(
                count for pattern, count in patterns.items() if pattern >> place & 1 and pattern >> (place - 1) & 1
            )
            before = rows[-1]["labels"]
            row |= {"of_previous": both / before if before else None, "without_previous": labels - both}
        rows.append(row)
    return rows


def positions(partial: Partial, task: str) -> dict[str, list[float]]:
    """Engagement by 1-based position: `position`, `shown`, `hits`, `rate` and its Wilson interval `low`, `high`; one entry per position."""
    shown = {int(place): count for place, count in partial["positions"]["impressions"].items()}
    hits = {int(place): count for place, count in partial["positions"][task].items()}
    places = sorted(shown)
    trials = np.array([shown[place] for place in places], np.float64)
    found = np.array([hits.get(place, 0) for place in places], np.float64)
    low, high = wilson(found / trials, trials)
    columns = {"shown": trials, "hits": found, "rate": found / trials, "low": low, "high": high}
    return {
        "position": [float(place) for place in places],
        **{name: column.tolist() for name, column in columns.items()},
    }


def orders(partial: Partial) -> dict[str, dict[str, Row]]:
    """mAP of the display order and of popularity so far by task, over lists with a label, with a 95 % interval."""
    found: dict[str, dict[str, Row]] = {}
    for order, tasks in partial["orders"].items():
        found[order] = {}
        for task, sums in tasks.items():
            interval = mean_interval(*sums[3:].tolist())
            if interval:
                found[order][task] = dict(zip(("map", "low", "high"), interval, strict=True)) | {"lists": int(sums[3])}
    return found


def list_facts(partial: Partial) -> Row:
    """Lists by size and label pattern. `all_positive` ones have average precision 1 whatever the ranking, single-item ones too."""
    sizes = {int(size): count for size, count in partial["list_lengths"].items()}
    ordered = sorted(sizes)
    ends = np.cumsum([sizes[size] for size in ordered])
    middle = ordered[int(np.searchsorted(ends, (ends[-1] + 1) // 2))]
    names = ("lists", "items", "single", "unlabelled", "all_positive", "labels", "lists_with", "list_lengths")
    return {name: partial[name] for name in names} | {"smallest": ordered[0], "median": middle, "largest": ordered[-1]}


def delays(figures: Figures) -> dict[str, Row]:
    """Per task how long credited engagements took, from `counts.attribution` of the manifest.

    `window` and `log` (from the first list to the last event) in ms; `inside`, `outside` engagements; `cut_off` the share outside. Late
    engagements of late impressions lie after the log's end, so `cut_off` is too small; `cut_off_corrected` weights a delay d by
    1 / (1 - d / log), which is right where traffic is even over the log. `curve` lists [delay in ms, share of engagements until it].
    """
    counts = figures.manifest.counts
    firsts = [split.first_time for split in figures.manifest.splits.values() if split.first_time is not None]
    last = counts.get("last_time")
    log = last - min(firsts) if last is not None and firsts else None
    found: dict[str, Row] = {}
    for name, task in figures.spec.tasks.items():
        told = counts.get("attribution", {}).get(name)
        if told and told.get("delay_histogram"):
            found[name] = _delay(told, task.window, log)
    return found


def _delay(told: Row, window: int, log: int | None) -> Row:
    pairs = sorted((int(edge), count) for edge, count in told["delay_histogram"].items())
    edges, counts = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
    inside, outside = told["attributed"], told["out_of_window"]
    row: Row = {"window": window, "log": log, "inside": inside, "outside": outside}
    row["cut_off"] = outside / (inside + outside) if inside + outside else None
    row["cut_off_corrected"] = _corrected(edges, counts, row, log)
    row["curve"] = [
        [int(edge), float(share)] for edge, share in zip(edges, np.cumsum(counts) / counts.sum(), strict=True)
    ]
    return row


def _corrected(edges: np.ndarray, counts: np.ndarray, row: Row, log: int | None) -> float | None:
    """The share beyond the window if every delay had been seen as often as it happens; None where the log is too short to tell.

    Engagements inside and outside get the mean weights of the histogram's bins on their side; a bin's delays are half a bin below its edge.
    """
    window, outside = row["window"], row["outside"]
    if not log or window >= log / 2 or not row["inside"] + outside:
        return None
    weights = 1 / np.maximum(1 - edges * 10**-0.05 / log, 0.1)
    late, soon = edges > window, edges <= window
    sums = [float((weights * counts)[side].sum() / counts[side].sum()) if side.any() else 1.0 for side in (soon, late)]
    return outside * sums[1] / (row["inside"] * sums[0] + outside * sums[1])


def format_duration(milliseconds: int) -> str:
    """`30 min`, `3 d`: in the largest unit that divides it."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds} ms"


def funnel_checks(figures: Figures) -> list[Check]:
    """Labels that skip a step, shown and never a failure: windows differ, and logs lose events."""
    checks = []
    for split in figures.splits:
        rows = funnel(figures.spec, figures.whole(split))[1:]
        told = [
            f"{row['task']} without the step before: {row['without_previous']:,} of {row['labels']:,}" for row in rows
        ]
        steps = " > ".join(figures.spec.task_names)
        checks.append(Check("labels", f"{split}: funnel {steps}", "pass", "; ".join(told) or "one task"))
    return checks


def delay_checks(found: dict[str, Row], figures: Figures) -> list[Check]:
    """`the window cuts off x %`, with what the log's end does to it."""
    checks = []
    for task, row in found.items():
        if row["cut_off"] is None:
            checks.append(Check("labels", f"{task}: window", "skip", "no engagement is credited"))
            continue
        text = f"the window of {format_duration(row['window'])} cuts off {row['cut_off']:.2%} of {task} engagements"
        if row["cut_off_corrected"] is not None:
            end = format_time(figures.manifest.counts["last_time"])
            text += f", about {row['cut_off_corrected']:.2%} with those after the log's end ({end})"
        checks.append(Check("labels", f"{task}: window", "pass", text))
    return checks


def list_checks(figures: Figures) -> list[Check]:
    """A split whose lists all lack the primary task's label cannot be measured, and one of single items not ranked."""
    task = figures.spec.primary_task
    checks = []
    for split in figures.splits:
        whole = figures.whole(split)
        with_label, trivial = whole["lists_with"][task], whole["all_positive"][task]
        text = f"{with_label:,} of {whole['lists']:,} lists have a {task}, {trivial:,} of them on every item (average precision 1)"
        useful = with_label > trivial
        checks.append(Check("labels", f"{split}: some lists can be ranked", "pass" if useful else "fail", text))
    return checks
