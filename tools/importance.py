"""What shuffling a model's features costs: `python -m tools.importance --run=<folder> --lists=<folder> --output=<folder>`.

First order: each feature and each family of features; second order: each pair of families, and --pairs. Every feature is shuffled within
lists and across lists, --permutations times, and importance is the drop of mAP. Several runs of one configuration (--run=a,b,c) are
averaged. Writes `table.md`, `features.png`, `families.png`, `interactions_<shuffle>.png` and, last, `importance.json`. An interrupted
measurement goes on. docs/importance.md defines everything.
"""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.evaluate import without_nan
from cvr.manifest import publish_json
from cvr.progress import Progress
from cvr.runs import Run, load_ranker, load_run
from tools.comparison.statistics import Resampling
from tools.permutation.families import make_families
from tools.permutation.figures import write_bars, write_heat_map
from tools.permutation.measure import Store, score_cells
from tools.permutation.plan import Plan, make_plan
from tools.permutation.results import Results
from tools.permutation.sample import Draw, Sample, draw_sample
from tools.permutation.scorer import Scorer
from tools.permutation.shuffles import KINDS
from tools.permutation.table import markdown

FLAGS = flags.FLAGS
RESULT = "importance.json"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_list("run", None, "Folders of finished runs that differ in the seed alone; also globs.", required=True)
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("output", None, "Folder for the results; an interrupted measurement there goes on.", required=True)
    flags.DEFINE_string("split", "validation", "Split to measure on.")
    flags.DEFINE_string("task", None, "Task whose mAP counts; by default the primary one.")
    flags.DEFINE_integer("max_lists", 5000, "Lists with a positive of the task that are drawn from the split, at most.", lower_bound=2)
    flags.DEFINE_integer("permutations", 10, "Permutations of each kind.", lower_bound=10)
    flags.DEFINE_string("families", None, "YAML file of families; by default they come from the spec.")
    flags.DEFINE_list("pairs", [], "Further pairs, of features or families: a:b,c:d.")
    flags.DEFINE_integer("batch_items", 4096, "Items per batch.", lower_bound=1)
    flags.DEFINE_integer("replicates", 2000, "Bootstrap replicates of the intervals.", lower_bound=100)
    flags.DEFINE_integer("seed", 0, "Seed of sample, permutations and bootstrap.", lower_bound=0)


def load_runs() -> list[Run]:
    """The runs of --run. Raises CvrError where one is no finished run, is given twice, or differs from the first in more than the seed."""
    folders = [Path(path) for text in FLAGS.run for path in (sorted(glob.glob(text)) if glob.has_magic(text) else [text])]
    if not folders:
        raise CvrError(f"--run={','.join(FLAGS.run)}: no folder fits")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise CvrError(f"--run={','.join(FLAGS.run)}: a run is given twice; each counts once")
    runs = [load_run(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        if run.spec != first.spec:
            raise CvrError(f"--run: {run.folder} has another feature spec than {first.folder}; average runs of one configuration only")
        if dataclasses.replace(run.config, seed=first.config.seed) != first.config:
            raise CvrError(f"--run: {run.folder} is another model than {first.folder}; average runs that differ in the seed alone")
    return runs


def settings(runs: Sequence[Run], sample: Sample) -> dict[str, Any]:
    """What decides the scored cells."""
    names = ("max_lists", "permutations", "seed")
    trained = [run for run in runs if run.info["data"] == sample.about["data"]]
    return {
        "runs": {str(run.folder): [run.info["checkpoint"], run.info.get("created")] for run in runs},
        "task": sample.task,
        **sample.about,
        "trained_on": any(FLAGS.split in run.info.get("flags", {}).get("train_splits", []) for run in trained),
        **{name: FLAGS[name].value for name in names},
    }


def measure(runs: Sequence[Run], sample: Sample, plan: Plan, store: Store) -> None:
    """Scores all cells of all runs, with a progress bar."""
    cells = plan.cells()
    total = len(cells) * len(runs) * FLAGS.permutations
    done = sum(store.has(number, cell) for number in range(len(runs)) for cell in cells) * FLAGS.permutations
    print(f"{len(cells)} sets of features x {FLAGS.permutations} permutations x {len(runs)} runs: {total:,} passes, {done:,} done before")
    progress = Progress(total, done)
    for number, run in enumerate(runs):
        scorer = Scorer(load_ranker(run.folder)[0], sample)
        score_cells(scorer, sample, store, cells, (number, FLAGS.permutations, FLAGS.seed), progress)
    progress.close()


def publish(output: Path, results: Results, plan: Plan, about: dict[str, Any]) -> str:
    """Writes table, plots and, last, the JSON; returns the table."""
    base, runs = results.base.value, len(about["runs"])
    title = f"{about['task']}, {about['lists']:,} lists of split {about['split']}"
    text = markdown(results, f"Permutation importance: {title}", runs, about["trained_on"])
    (output / "table.md").write_text(text, encoding="utf-8")
    write_bars(results.features, base, output / "features.png", f"Features: {title}")
    write_bars(results.families, base, output / "families.png", f"Families: {title}")
    for kind in KINDS:
        rows = [row for row in results.pairs if row.kind == kind]
        names = [row.name for row in results.families if any(row.name in pair.names for pair in rows)]
        if names:
            write_heat_map(rows, names, base, output / f"interactions_{kind}.png", f"Interactions, shuffled {kind} lists: {title}")
    families = {"families": {name: list(members) for name, members in plan.families.items()}}
    publish_json(output / RESULT, without_nan({**about, **families, "found": results.as_json()}))
    return text


def main(argv: Sequence[str]) -> int:
    """Measures what is not measured yet, then writes table and plots."""
    del argv
    output = Path(FLAGS.output)
    if (output / RESULT).is_file():
        raise CvrError(f"--output={output} already holds a result; choose another folder, or remove {RESULT} to measure more --pairs")
    runs = load_runs()
    spec = runs[0].spec
    plan = make_plan(spec, make_families(spec, FLAGS.families), FLAGS.pairs)
    task = FLAGS.task or spec.primary_task
    sample = draw_sample(spec, Draw(FLAGS.lists, FLAGS.split, task, FLAGS.max_lists, FLAGS.seed, FLAGS.batch_items))
    about = settings(runs, sample)
    store = Store(output / "cells", about)
    measure(runs, sample, plan, store)
    print(publish(output, Results(plan, store, len(runs), Resampling(FLAGS.replicates, FLAGS.seed)), plan, about))
    print(f"written to {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
