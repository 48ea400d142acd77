"""Which system ranks better, by how much, and how sure that is: `python -m tools.compare eval_a eval_b [eval_c ..] --output=<folder>`.

Each argument is a system: the evaluation folder of a trained model, or those of several seeds (`mask=eval_0,eval_1`, `"mask=eval_*"`), or a
baseline that the evaluations hold (`display_order`). The first one is the reference. Writes `comparison.json` (published last) and a forest
plot per task and metric. docs/comparisons.md says what the columns mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import app, flags

from cvr.errors import CvrError, run_main
from cvr.evaluate import without_nan
from cvr.manifest import publish_json
from tools.comparison.evaluations import Evaluations, Values, parse_systems
from tools.comparison.forest import write_forest
from tools.comparison.slices import OWN, FeatureSlices, Slicing, by_value
from tools.comparison.statistics import Resampling, compare
from tools.comparison.table import CORRECTIONS, Row, correct, text

FLAGS = flags.FLAGS
RESULT = "comparison.json"


def define_flags() -> None:
    """The command's flags; the systems are arguments."""
    flags.DEFINE_string("output", None, "Folder for the results; must not hold a comparison.", required=True)
    flags.DEFINE_list("metrics", ["map"], "Columns of per_list.parquet.")
    flags.DEFINE_list("tasks", None, "Tasks; by default all that every evaluation has.")
    flags.DEFINE_list("slices", [], f"Slices: {', '.join(OWN)}; with --lists also context features and frequency:<feature>.")
    flags.DEFINE_string("lists", None, "Folder of the evaluated lists, for slices by features.")
    flags.DEFINE_list("train_splits", ["train"], "Splits in which frequency:<feature> counts.")
    flags.DEFINE_integer("bins", 4, "Ranges of a number, and values of a category, at most.", lower_bound=2)
    flags.DEFINE_integer("min_lists", 30, "Lists of a slice at least; smaller ones are left out.", lower_bound=2)
    flags.DEFINE_float("margin", None, "Difference, in units of the metric, below which two systems count as equivalent.", lower_bound=0.0)
    flags.DEFINE_enum("correction", "holm", sorted(CORRECTIONS), "Correction of the p-values of a table for their number.")
    flags.DEFINE_string("cluster", None, "Regular expression whose first group of a search id names lists that belong together.")
    flags.DEFINE_bool("same_data", True, "Whether all must have been evaluated on the very same records, not just searches and labels.")
    flags.DEFINE_integer("replicates", 10_000, "Bootstrap replicates.", lower_bound=100)
    flags.DEFINE_integer("seed", 0, "Seed of the bootstrap.", lower_bound=0)


def clusters_of(search_id: pd.Series) -> np.ndarray | None:
    """Cluster of each list by --cluster, int `[Q]`. Raises CvrError where a search id does not match."""
    if not FLAGS.cluster:
        return None
    try:
        pattern = re.compile(FLAGS.cluster)
    except re.error as error:
        raise CvrError(f"--cluster={FLAGS.cluster!r} is no regular expression: {error}") from error
    if pattern.groups < 1:
        raise CvrError(f"--cluster={FLAGS.cluster!r} has no group; put the part that lists share in parentheses")
    names = search_id.str.extract(FLAGS.cluster, expand=True)[0]
    if names.isna().any():
        raise CvrError(f"--cluster={FLAGS.cluster!r} does not match search id {search_id[names.isna()].iloc[0]!r}")
    return pd.factorize(names)[0]


def slicings(lists: pd.DataFrame, features: FeatureSlices | None) -> list[Slicing]:
    """What --slices asks for. Raises CvrError for a feature without --lists."""
    found = []
    for name in FLAGS.slices:
        if name in OWN:
            found.append(by_value(name, lists[name].to_numpy(), FLAGS.bins))
        elif features is None:
            raise CvrError(f"--slices: {name!r} needs --lists; without it there are {', '.join(OWN)}")
        else:
            found.append(features.slicing(name, lists["search_id"], FLAGS.bins))
    return found


def rows_of(values: Values, task: str, metric: str, part: tuple[str, str, np.ndarray]) -> list[Row]:
    """All systems against the first, on the lists `[Q]` that a part (slicing, slice, chosen) chooses."""
    slicing, name, chosen = part
    reference, *others = values.systems
    clusters = clusters_of(values.lists["search_id"][chosen])
    how = Resampling(FLAGS.replicates, FLAGS.seed, FLAGS.margin)
    base = values.systems[reference][:, chosen]
    return [
        Row(task, metric, slicing, name, reference, other, compare(base, values.systems[other][:, chosen], how, clusters))
        for other in others
    ]


def compare_all(evaluations: Evaluations, features: FeatureSlices | None) -> tuple[list[Row], list[Row]]:
    """(rows of all lists, rows of slices), each corrected for its own number."""
    overall: list[Row] = []
    sliced: list[Row] = []
    for task in FLAGS.tasks or evaluations.tasks:
        for metric in FLAGS.metrics:
            values = evaluations.values(task, metric)
            overall += rows_of(values, task, metric, ("", "", np.ones(len(values.lists), bool)))
            for slicing in slicings(values.lists, features):
                for code, label in enumerate(slicing.labels):
                    chosen = slicing.codes == code
                    if chosen.sum() >= FLAGS.min_lists:
                        sliced += rows_of(values, task, metric, (slicing.name, label, chosen))
                    elif chosen.any():
                        print(f"left out: {task}, {metric}, {slicing.name} {label}: {chosen.sum()} lists, fewer than --min_lists")
    return correct(overall, FLAGS.correction), correct(sliced, FLAGS.correction)


def check_tasks(evaluations: Evaluations) -> None:
    """Raises CvrError for a task that not all evaluations have, and where they share none."""
    missing = [task for task in FLAGS.tasks or [] if task not in evaluations.tasks]
    if missing or not evaluations.tasks:
        have = ", ".join(evaluations.tasks) or "none"
        raise CvrError(f"--tasks: not all evaluations have {missing[0] if missing else 'a task in common'}; in all of them: {have}")


def about(evaluations: Evaluations) -> dict[str, Any]:
    """The head of the result: systems, lists and settings."""
    names = ("margin", "correction", "cluster", "replicates", "seed")
    return {
        "systems": {system.name: [str(folder) for folder in system.folders] for system in evaluations.systems},
        **{key: evaluations.about[key] for key in ("split", "data")},
        "settings": {name: FLAGS[name].value for name in names},
    }


def main(argv: Sequence[str]) -> int:
    """Compares the systems and publishes table, JSON and plots."""
    output = Path(FLAGS.output)
    if (output / RESULT).is_file():
        raise CvrError(f"--output={output} already holds a comparison; choose another folder or remove it")
    evaluations = Evaluations(parse_systems(argv[1:]), FLAGS.same_data)
    check_tasks(evaluations)
    split, data = (evaluations.about[key] for key in ("split", "data"))
    features = FeatureSlices(FLAGS.lists, split, FLAGS.train_splits, data) if FLAGS.lists else None
    overall, sliced = compare_all(evaluations, features)
    output.mkdir(parents=True, exist_ok=True)
    for task, metric in dict.fromkeys((row.task, row.metric) for row in overall):
        rows = [row for row in (*overall, *sliced) if (row.task, row.metric) == (task, metric)]
        write_forest(rows, output / f"forest_{task}_{metric}.png", f"{task}, {metric}, split {split}", FLAGS.margin)
    tables = {"overall": [row.as_json() for row in overall], "slices": [row.as_json() for row in sliced]}
    publish_json(output / RESULT, without_nan({**about(evaluations), **tables}))
    print(text(overall) + ("\n\nslices\n" + text(sliced) if sliced else ""))
    if min(seeds for row in overall for seeds in row.found.seeds) == 1:
        print("a system with one seed: its intervals are about that trained model, not about others trained alike")
    print(f"p-values corrected in each table: {FLAGS.correction}; written to {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=lambda argv: app.parse_flags_with_usage(list(argv)))


if __name__ == "__main__":
    entry()
