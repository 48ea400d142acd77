"""Every backbone on the same lists: tuned with the same small budget on the validation split, then several seeds on the test split.

python -m tools.study_backbones --lists=<folder> --base=configs/trivago2019.flags --output=<folder> \
    [--grid="learning_rate=0.001,0.003;dropout=0.2,0.4"] [--seeds=5] [--beside=lambdamart=<evaluation>,..]

Every run is a command of its own (`--print_commands`), a finished one is never repeated. Writes `table.md`, `differences.png`
and, last, `study.json`: mAP with intervals over lists and seeds, costs, and differences to the first system of --beside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr import backbones
from cvr.errors import CvrError, run_main
from cvr.evaluate import without_nan
from cvr.manifest import load_manifest, publish_json
from tools.comparison.evaluations import Evaluations, System, parse_systems
from tools.comparison.statistics import Resampling, compare
from tools.comparison.table import Row, correct
from tools.studies.backbones import Choice, Study, best, outcomes, parse_grid, spread
from tools.studies.figure import write_figure
from tools.studies.jobs import execute, print_commands
from tools.studies.markdown import markdown

FLAGS = flags.FLAGS
RESULT = "study.json"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("base", None, "Flagfile that every run starts from.", required=True)
    flags.DEFINE_string("output", None, "Folder of the study; runs that are finished there are kept.", required=True)
    flags.DEFINE_list("backbones", None, f"Backbones; by default all: {', '.join(backbones.names())}.")
    flags.DEFINE_string("grid", "learning_rate=0.001,0.003;dropout=0.2,0.4", "Configurations to tune: name=value,value;name=value,..")
    flags.DEFINE_integer("seeds", 5, "Seeds of the chosen configuration.", lower_bound=1)
    flags.DEFINE_list("splits", ["train", "validation", "test"], "Splits to train on, to choose on and to report.")
    flags.DEFINE_list("beside", [], "Evaluations to compare with, the reference first: name=<folder>.")
    flags.DEFINE_integer("parallel", 1, "Runs at the same time.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "TensorFlow's threads in each run; 0 lets it choose.", lower_bound=0)
    flags.DEFINE_bool("print_commands", False, "Print the commands that are left, to run them elsewhere, and stop.")
    flags.DEFINE_integer("replicates", 10_000, "Bootstrap replicates.", lower_bound=100)


def study() -> Study:
    """The study that the flags ask for. Raises CvrError for a wrong number of splits or an unknown backbone."""
    if len(FLAGS.splits) != 3:
        raise CvrError(f"--splits={','.join(FLAGS.splits)}: give three, to train on, to choose on and to report")
    unknown = [name for name in FLAGS.backbones or [] if name not in backbones.names()]
    if unknown:
        raise CvrError(f"--backbones: there is no {unknown[0]!r}; there are {', '.join(backbones.names())}")
    if not Path(FLAGS.base).is_file():
        raise CvrError(f"no flagfile at --base={FLAGS.base}")
    train, validation, test = FLAGS.splits
    return Study(Path(FLAGS.output), FLAGS.base, FLAGS.lists, (train, validation, test), FLAGS.threads)


def tune(this: Study, names: Sequence[str], choices: Sequence[Choice], task: str) -> dict[str, dict[Choice, float]]:
    """Validation mAP of every configuration of every backbone."""
    jobs = {name: this.tuning(name, choices) for name in names}
    execute([job for own in jobs.values() for job in own.values()], FLAGS.parallel, "tuning")
    return {name: outcomes(own, task) for name, own in jobs.items()}


def compare_with(systems: Sequence[System], task: str) -> tuple[dict[str, Any], list[Row]]:
    """Values by system, and each system's difference to the first."""
    values = Evaluations(systems).values(task, "map")
    how = Resampling(FLAGS.replicates)
    reference = systems[0].name
    rows = [
        Row(task, "map", "", "", reference, s.name, compare(values.systems[reference], values.systems[s.name], how))
        for s in systems[1:]
    ]
    return values.systems, correct(rows, "holm")


def interval(values: Any) -> tuple[float, tuple[float, float]]:
    """Mean of `[S, Q]` and its 95 % interval over lists and seeds: that of the difference to nothing."""
    found = compare(values * 0.0, values, Resampling(FLAGS.replicates))
    return found.difference, found.interval


def backbone_rows(this: Study, tuned: dict[str, dict[Choice, float]], task: str) -> list[dict[str, Any]]:
    """Costs and choices of each backbone."""
    rows = []
    for name, found in tuned.items():
        runs = [this.run_info(name, seed) for seed in range(FLAGS.seeds)]
        chosen = best(found)
        rows.append(
            {
                "system": name,
                "chosen": dict(chosen),
                "validation_map": found[chosen],
                "tried": [{**dict(choice), "validation_map": value} for choice, value in found.items()],
                "parameters": runs[0]["parameters"],
                "flops_per_item": runs[0]["flops_per_item"],
                "items_per_second": spread([run["items_per_second_train"] for run in runs])[0],
                "task": task,
            }
        )
    return rows


def main(argv: Sequence[str]) -> int:
    """Runs what is not finished, then writes table and plot."""
    del argv
    this, names, choices = study(), FLAGS.backbones or list(backbones.names()), parse_grid(FLAGS.grid)
    task = load_manifest(FLAGS.lists).spec().primary_task
    if FLAGS.print_commands:
        tuning = [job for name in names for job in this.tuning(name, choices).values()]
        print_commands(tuning)
        if any(not job.finished for job in tuning):
            return 0
    tuned = tune(this, names, choices, task)
    final = [job for name in names for job in this.final(name, best(tuned[name]), FLAGS.seeds)]
    if FLAGS.print_commands:
        print_commands(final)
        return 0
    execute(final, FLAGS.parallel, "seeds")
    own = [System(name, tuple(this.evaluation(name, seed) for seed in range(FLAGS.seeds))) for name in names]
    beside = parse_systems([*FLAGS.beside, "display_order", str(own[0].folders[0])])[:-1]
    values, differences = compare_with([*beside, *own], task)
    rows = [{"system": system.name} for system in beside] + backbone_rows(this, tuned, task)
    for row in rows:
        found = values[row["system"]]
        row["map"], row["map_ci"] = interval(found)
        row["seeds"], row["map_sd"] = len(found), spread(found.mean(axis=1))[1] if len(found) > 1 else math.nan
    text = markdown(rows, differences, task, this.splits[2])
    (this.output / "table.md").write_text(text, encoding="utf-8")
    compared = [row for row in differences if row.system in names]
    write_figure(compared, this.output / "differences.png", f"{task}, mAP, split {this.splits[2]}")
    publish_json(this.output / RESULT, without_nan({"systems": rows, "differences": [row.as_json() for row in differences]}))
    print(text)
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
