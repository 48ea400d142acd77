"""Turns a finished demo run into its report page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cvr.history import HISTORY_FILE
from cvr.manifest import Manifest, load_manifest
from cvr.runs import RUN_FILE
from tools.demo_plan import Choices
from tools.report import figures
from tools.report.figures import Curve, Score
from tools.report.page import Page, Section, render
from tools.report.sample import position_curve, read_samples, task_delays
from tools.report.summary import BASELINE_NAMES, with_interval

REPORT_FILE = "report.html"
METRICS = {"map": "mAP", "mrr": "MRR", "ndcg_at_10": "NDCG@10", "gauc": "grouped AUC"}


def write_report(choices: Choices, summary: dict[str, Any]) -> Path:
    """Writes `report.html` into the run's folder, in one rename; returns its path."""
    manifest = load_manifest(choices.lists)
    run = json.loads((choices.model / RUN_FILE).read_text(encoding="utf-8"))
    sections = [
        _ranking(summary),
        _training(choices.model / HISTORY_FILE),
        *_data(choices.lists, manifest),
        _costs(summary),
        _origin(run, manifest),
    ]
    lists = summary["lists"]
    subtitle = f"{manifest.dataset} logs: {lists['train']:,} training and {lists['eval']:,} test lists"
    html = render(Page(f"Run {choices.folder.name}", subtitle, _tiles(summary), sections))
    path = choices.folder / REPORT_FILE
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(html, encoding="utf-8")
    os.replace(temporary, path)
    return path


def _tiles(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    task = summary["primary_task"]
    found = summary["tasks"][task]
    tiles = [(f"{task} mAP", _number(found["map"]), f"95 % interval {_range(found['map_ci'])}")]
    if "gap_closed" in summary:
        low, high = (f"{100 * value:.0f}" for value in summary["gap_closed_ci"])
        share = f"{100 * summary['gap_closed']:.0f} %"
        tiles.append(("of the gap to the Bayes ceiling closed", share, f"95 % interval {low} to {high} %"))
    tiles.append(
        ("display order", _number(found["baselines"]["display_order"]["map"]), f"{task} mAP of what was shown")
    )
    difference = f"{summary['parity_largest_difference']:.0e}"
    tiles.append(("parity", difference, "largest difference of a logit, checkpoint to gRPC answer"))
    tiles.append(("training speed", f"{summary['items_per_second_train']:,.0f}", "items per second"))
    return tiles


def _ranking(summary: dict[str, Any]) -> Section:
    scores: dict[str, list[Score]] = {}
    rows = []
    for task, found in sorted(summary["tasks"].items(), key=lambda entry: entry[0] != summary["primary_task"]):
        rankings = {"this model": found, **{BASELINE_NAMES.get(k, k): v for k, v in found["baselines"].items()}}
        shown = [_score(name, values) for name, values in rankings.items() if values["map"] is not None]
        if task == summary["primary_task"] and "bayes_map" in summary:
            shown.append(Score("Bayes ceiling", summary["bayes_map"], tuple(summary["bayes_map_ci"]), "ceiling"))
        if shown:
            scores[f"{task} ({found['lists']:,} lists)"] = shown
        for name, values in rankings.items():
            rows.append([f"{task}: {name}", *(with_interval(values, metric) for metric in METRICS)])
    intro = "How well the test lists are ranked, over the lists with at least one positive. Bars are 95 % bootstrap intervals."
    note = "The Bayes ceiling ranks by the utility from which the log was drawn; no model can do better on average."
    return Section(
        "Ranking",
        intro,
        ["", *METRICS.values()],
        rows,
        figures.scores_figure(scores) if scores else "",
        note if "bayes_map" in summary else "",
    )


def _score(name: str, values: dict[str, Any]) -> Score:
    kind = "model" if name == "this model" else "baseline"
    return Score(name, values["map"], tuple(values["map_ci"]), kind)


def _training(history: Path) -> Section:
    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    panels = {
        "training loss": _curves(rows, "train", "loss"),
        "validation mAP": _curves(rows, "validation", "map"),
    }
    panels = {title: curves for title, curves in panels.items() if curves}
    intro = "Listwise softmax loss by task over the training steps, and mAP of the validation lists after each epoch."
    return Section("Training", intro, figure=figures.lines_figure(panels, "step") if panels else "")


def _curves(rows: list[dict[str, Any]], kind: str, key: str) -> dict[str, Curve]:
    chosen = [row for row in rows if row["kind"] == kind]
    tasks = dict.fromkeys(task for row in chosen for task in row[key])
    points = {task: [(row["step"], row[key][task]) for row in chosen if task in row[key]] for task in tasks}
    return {task: Curve(*zip(*found, strict=True)) for task, found in points.items()}


def _data(folder: Path, manifest: Manifest) -> list[Section]:
    samples, tasks = read_samples(folder, manifest), manifest.spec().tasks
    sizes = {name: sample.sizes for name, sample in samples.items()}
    rows = [
        [name, f"{s.lists:,}", f"{s.items:,}", *(f"{s.labels.get(task, 0):,}" for task in tasks)]
        for name, s in manifest.splits.items()
    ]
    lengths = Section(
        "Search lists",
        "Lists by their number of items.",
        ["split", "lists", "items", *(f"{task} labels" for task in tasks)],
        rows,
        figures.lengths_figure(sizes),
    )
    shown = samples.get("test") or next(iter(samples.values()))
    curves = {f"{task}": {task: position_curve(shown, place)} for place, task in enumerate(tasks)}
    positions = Section(
        "Position",
        "Share of shown items that were engaged with, by place in the list (test lists, 95 % intervals).",
        figure=figures.lines_figure(curves, "position"),
    )
    delays = {task: task_delays(samples, place) for place, task in enumerate(tasks)}
    windows = {name: task.window for name, task in tasks.items()}
    late = Section(
        "Label delays",
        "How long after the impression the engagements came that became labels.",
        figure=figures.delay_figure({task: found for task, found in delays.items() if len(found)}, windows),
    )
    return [lengths, positions, late]


def _costs(summary: dict[str, Any]) -> Section:
    rows = [
        ["parameters", f"{summary['parameters']:,}"],
        ["FLOPs per item", f"{summary['flops_per_item']:,}"],
        ["FLOPs once per list", f"{summary['flops_per_list']:,}"],
        ["embedding bytes", f"{summary['embedding_bytes']:,}"],
        *([f"stage {stage}", f"{seconds:.1f} s"] for stage, seconds in summary["seconds"].items()),
    ]
    return Section("Cost", "", ["", ""], rows)


def _origin(run: dict[str, Any], manifest: Manifest) -> Section:
    rows = [
        ["lists built from", manifest.source],
        ["lists built at", manifest.created],
        ["data fingerprint", str(run["data"])],
        ["spec fingerprint", manifest.spec_fingerprint],
        ["versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())],
        ["training flags", ", ".join(f"{name}={value}" for name, value in run["flags"].items() if value is not None)],
    ]
    return Section("Where it comes from", "", ["", ""], rows)


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _range(interval: list[float | None]) -> str:
    return " to ".join(_number(value) for value in interval)
