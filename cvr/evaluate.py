"""Evaluates a trained ranker on a split: `python -m cvr.evaluate --run=<folder> --lists=<folder> --split=test --output=<folder>`.

Writes `summary.json` (published last), `per_list.parquet` (one row per list and task) and `scores.parquet` (one row per item).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags

from cvr.data import Budget, split_files
from cvr.errors import CvrError, run_main
from cvr.manifest import load_manifest, publish_json
from cvr.reports import evaluate_task, score_frame, table
from cvr.runs import load_ranker
from cvr.scoring import ScoredLists, compile_scorer, score_files

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The job's flags."""
    flags.DEFINE_string("run", None, "Folder of a finished training run.", required=True)
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("output", None, "Folder for the results; must not hold a finished evaluation.", required=True)
    flags.DEFINE_string("split", "test", "Split to evaluate.")
    flags.DEFINE_integer("batch_items", 4096, "Items per batch.", lower_bound=1)
    flags.DEFINE_integer("bootstrap", 1000, "Bootstrap replicates of the intervals.", lower_bound=10)


def load_scores() -> tuple[ScoredLists, dict[str, Any], tuple[str, ...]]:
    """(scored lists, what was evaluated, task names). Raises CvrError when run and lists do not fit together."""
    manifest = load_manifest(FLAGS.lists)
    files = split_files(FLAGS.lists, manifest, [FLAGS.split])
    ranker, run = load_ranker(FLAGS.run)
    if run.spec.fingerprint != manifest.spec_fingerprint:
        raise CvrError(
            f"the run in {FLAGS.run} was trained with another feature spec than the lists in {FLAGS.lists} hold; rebuild one of them"
        )
    budget = Budget.for_manifest(manifest, [FLAGS.split], max(FLAGS.batch_items, manifest.split(FLAGS.split).max_list_size))
    scored = score_files(compile_scorer(ranker), run.spec, files, budget)
    about = {
        "run": str(FLAGS.run),
        "checkpoint": run.info["checkpoint"],
        "split": FLAGS.split,
        "lists": len(scored.lengths),
        "items": len(scored.item),
        "data": manifest.data_fingerprint(),
    }
    return scored, about, run.spec.task_names


def without_nan(value: Any) -> Any:
    """JSON has no NaN: an undefined metric is null."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def publish(output: Path, scored: ScoredLists, about: dict[str, Any], tasks: tuple[str, ...], replicates: int) -> dict[str, Any]:
    """Writes an evaluation's three files, `summary.json` last; returns the summary of each task. `tasks` are the columns of `scored`."""
    output.mkdir(parents=True, exist_ok=True)
    summaries, frames = {}, []
    for place, task in enumerate(tasks):
        summaries[task], frame = evaluate_task(scored, place, replicates)
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
    scored, about, tasks = load_scores()
    summaries = publish(output, scored, about, tasks, FLAGS.bootstrap)
    print(f"{about['lists']:,} lists of split {FLAGS.split!r}, {about['items']:,} items\n{table(summaries)}\nwritten to {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
