"""The figures of a demo run in one JSON file, and as a few lines for the terminal."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cvr.manifest import load_manifest, publish_json
from cvr.runs import RUN_FILE
from export.versions import newest
from tools.demo_plan import Choices
from tools.report.bayes import ceiling

SUMMARY_FILE = "summary.json"
BASELINE_NAMES = {"display_order": "display order", "popularity": "popularity so far"}


def summarise(choices: Choices, seconds: dict[str, float]) -> dict[str, Any]:
    """Collects what the stages published, writes `summary.json` into the run's folder and returns it."""
    run, evaluation = _read(choices.model / RUN_FILE), _read(choices.evaluation / "summary.json")
    manifest = load_manifest(choices.lists)
    sizes = {name: split.lists for name, split in manifest.splits.items()}
    summary: dict[str, Any] = {
        "source": choices.source,
        "dataset": manifest.dataset,
        "lists": {"train": run["lists"], "validation": sizes.get("validation", 0), "eval": evaluation["lists"]},
        "primary_task": run["primary_task"],
        "tasks": evaluation["tasks"],
        "parity_largest_difference": _read(choices.parity)["largest_difference"],
        **{key: run[key] for key in ("flops_per_item", "flops_per_list", "parameters", "embedding_bytes")},
        "items_per_second_train": run["items_per_second_train"],
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "model_version": int(newest(choices.export).name),
    }
    truth = choices.logs / "truth" / "impressions"
    if choices.source == "synthetic":
        found = ceiling(choices.evaluation / "scores.parquet", truth, run["primary_task"])
        names = {"map": "bayes_map", "map_ci": "bayes_map_ci"}
        summary |= {names.get(key, key): value for key, value in dataclasses.asdict(found).items()}
    publish_json(choices.folder / SUMMARY_FILE, summary)
    return summary


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def describe(summary: dict[str, Any]) -> str:
    """A terminal's view of a summary."""
    lists = summary["lists"]
    lines = [f"{summary['source']}: {lists['train']:,} training lists, {lists['eval']:,} test lists"]
    for task, found in summary["tasks"].items():
        rows = {"this model": found, **{BASELINE_NAMES.get(k, k): v for k, v in found["baselines"].items()}}
        lines += [f"{task + ' mAP':<16} {name:<18} {with_interval(values, 'map')}" for name, values in rows.items()]
        if task == summary["primary_task"] and "bayes_map" in summary:
            lines.append(f"{task + ' mAP':<16} {'Bayes ceiling':<18} {with_interval(summary, 'bayes_map')}")
            lines.append(
                f"the model closes {percent(summary, 'gap_closed')} of the gap from display order to the ceiling"
            )
    lines.append(
        f"{summary['parameters']:,} parameters, {summary['flops_per_item']:,} FLOPs per item, "
        f"trained at {summary['items_per_second_train']:,.0f} items/s"
    )
    lines.append(f"model version {summary['model_version']}, parity {summary['parity_largest_difference']:.1e}")
    lines.append("seconds: " + ", ".join(f"{stage} {value:.0f}" for stage, value in summary["seconds"].items()))
    return "\n".join(lines)


def with_interval(values: dict[str, Any], name: str) -> str:
    """`0.6158 [0.6012, 0.6301]`, or `not defined` for a metric without any list."""
    if values[name] is None or None in values[f"{name}_ci"]:
        return "not defined"
    low, high = values[f"{name}_ci"]
    return f"{values[name]:.4f} [{low:.4f}, {high:.4f}]"


def percent(values: dict[str, Any], name: str) -> str:
    """`64 % [60, 68]`."""
    low, high = values[f"{name}_ci"]
    return f"{100 * values[name]:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
