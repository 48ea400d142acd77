"""Evaluates a trained ranker on a split: `python -m cvr.evaluate --run=<folder> --lists=<folder> --split=test --output=<folder>`.

Writes `summary.json` (published last), `per_list.parquet` (one row per list and task), `scores.parquet` (one row per item) and
`reliability.svg` (observed against predicted).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags

from cvr.calibration import load_calibration
from cvr.errors import CvrError, run_main
from cvr.links import condition_of, link_of
from cvr.manifest import publish_json
from cvr.probability_report import FIGURE_FILE, Meaning, judge, text, write_figure
from cvr.reports import evaluate_task, score_frame, table
from cvr.runs import Run, load_ranker
from cvr.scoring import ScoredLists, score_split

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The job's flags."""
    flags.DEFINE_string("run", None, "Folder of a finished training run.", required=True)
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("output", None, "Folder for the results; must not hold a finished evaluation.", required=True)
    flags.DEFINE_string("split", "test", "Split to evaluate.")
    flags.DEFINE_integer("batch_items", 4096, "Items per batch.", lower_bound=1)
    flags.DEFINE_integer("bootstrap", 1000, "Bootstrap replicates of the intervals.", lower_bound=10)


def load_scores() -> tuple[ScoredLists, dict[str, Any], Run, Meaning]:
    """(scored lists, what was evaluated, the run, what its scores mean). Raises CvrError when run and lists do not fit together."""
    ranker, run = load_ranker(FLAGS.run)
    calibration = load_calibration(run.folder, run.info["checkpoint"])
    scored, manifest = score_split(ranker, run.spec, FLAGS.lists, FLAGS.split, FLAGS.batch_items)
    about: dict[str, Any] = {
        "run": str(FLAGS.run),
        "checkpoint": run.info["checkpoint"],
        "split": FLAGS.split,
        "lists": len(scored.lengths),
        "items": len(scored.item),
        "data": manifest.data_fingerprint(),
    }
    if calibration:
        fitted = {name: getattr(calibration, name) for name in ("method", "split", "data", "lists")}
        about["calibration"] = {**fitted, "fitted_here": (calibration.split, calibration.data) == (FLAGS.split, about["data"])}
    return scored, about, run, Meaning(link_of(run.info), calibration.condition if calibration else condition_of(manifest), calibration)


def without_nan(value: Any) -> Any:
    """JSON has no NaN: an undefined metric is null."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def publish(
    output: Path, scored: ScoredLists, about: dict[str, Any], tasks: tuple[str, ...], replicates: int, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Writes an evaluation's tables and, last, `summary.json`; returns the summary of each task.

    `tasks` are the columns of `scored`; `extra` has further parts of a task's summary by task and name.
    """
    output.mkdir(parents=True, exist_ok=True)
    summaries, frames = {}, []
    for place, task in enumerate(tasks):
        summaries[task], frame = evaluate_task(scored, place, replicates)
        summaries[task] |= (extra or {}).get(task, {})
        frames.append(frame.assign(task=task))
    pd.concat(frames, ignore_index=True).to_parquet(output / "per_list.parquet")
    score_frame(scored, tasks).to_parquet(output / "scores.parquet")
    publish_json(output / "summary.json", without_nan({**about, "tasks": summaries}))
    return summaries


def main(argv: Sequence[str]) -> int:
    """Scores a split and publishes metrics with intervals beside the baselines."""
    del argv
    output = Path(FLAGS.output)
    if (output / "summary.json").is_file():
        raise CvrError(f"--output={output} already holds an evaluation; choose another folder or remove it")
    scored, about, run, meaning = load_scores()
    tasks = run.spec.task_names
    judged, curves = judge(scored, tasks, run.spec.primary_task, meaning, FLAGS.bootstrap)
    output.mkdir(parents=True, exist_ok=True)
    write_figure(output / FIGURE_FILE, curves)
    extra = {task: {"calibration": found} for task, found in judged.items()}
    summaries = publish(output, scored, about, tasks, FLAGS.bootstrap, extra)
    print(f"{about['lists']:,} lists of split {FLAGS.split!r}, {about['items']:,} items\n{table(summaries)}\n{text(judged)}")
    if about.get("calibration", {}).get("fitted_here"):
        print("the calibration was fitted on these very lists: what it says of them is too good")
    print(f"written to {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
