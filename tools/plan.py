"""What to scale next, from measured scaling curves and under budgets.

    python -m tools.plan --results=docs/results/backbone --output=plan
    python -m tools.plan --results=a/results.parquet,b/results.parquet --budget_flops_per_item=2e6 --budget_training=3600 --output=plan
    python -m tools.plan --results=study --serving_curve=curve.json --rate=100 --p99_ms=50 --output=plan

Reads result tables (`tools.tracking.table`; tools.scaling_study writes them) and writes plan.md, plan.json and three plots.
docs/planning.md says how curves are fitted and checked, and when a step is refused.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

from cvr.errors import CvrError, run_main
from cvr.evaluate import without_nan
from cvr.manifest import publish_json
from export.batching import Batching
from tools.planning import figures, report
from tools.planning.additivity import interactions
from tools.planning.axes import axes_of
from tools.planning.cells import Draws
from tools.planning.pareto import points
from tools.planning.steps import Budget, Latency, ranked, steps_of
from tools.serving.curves import read_machine
from tools.serving.planning import run
from tools.tracking.table import ResultRow, read_results

FLAGS = flags.FLAGS
RESULT = "plan.json"
TABLE = "results.parquet"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_list("results", None, f"Result tables, or folders that hold {TABLE} somewhere.", required=True)
    flags.DEFINE_string("output", None, "Folder for the plan; must not hold one.", required=True)
    flags.DEFINE_string("task", None, "Task to plan for; by default the first of the table.")
    flags.DEFINE_string("metric", "map", "Metric to plan for.")
    flags.DEFINE_float("budget_flops_per_item", None, "The most FLOPs per item of a model.", lower_bound=0.0)
    flags.DEFINE_float("budget_training", None, "The most seconds of training, on the study's machine.", lower_bound=0.0)
    flags.DEFINE_float("budget_memory", None, "The most bytes of weights when serving.", lower_bound=0.0)
    flags.DEFINE_float("p99_ms", None, "The highest latency, P99; needs --serving_curve.", lower_bound=0.0)
    flags.DEFINE_string("serving_curve", None, "Service times of the base model, as tools.simulate_serving --measure writes them.")
    flags.DEFINE_float("rate", 20.0, "Requests a second at which P99 is simulated.", lower_bound=0.01)
    flags.DEFINE_list("sizes", ["25"], "Items of the simulated requests, each as likely.")
    flags.DEFINE_integer("num_simulated", 20_000, "Simulated requests.", lower_bound=100)
    flags.DEFINE_list("factors", ["2"], "Factors by which each axis may be raised from its base.")
    flags.DEFINE_enum("rank_by", "training_seconds", report.RANKINGS, "Gain, or gain per doubling of a cost.")
    flags.DEFINE_integer("replicates", 4000, "Bootstrap replicates.", lower_bound=100)
    flags.DEFINE_integer("seed", 0, "Seed of the bootstrap and of the simulation.", lower_bound=0)


def read_rows() -> list[ResultRow]:
    """The rows of --results of one task and metric. Raises CvrError where there is nothing to read."""
    rows: list[ResultRow] = []
    for given in map(Path, FLAGS.results):
        files = sorted(given.rglob(TABLE)) if given.is_dir() else [given]
        if not files:
            raise CvrError(f"--results={given}: no {TABLE} in this folder; run a scaling study first, or name the table")
        rows += [row for file in files for row in read_results(file)]
    task = FLAGS.task or rows[0].task
    found = [row for row in rows if (row.task, row.metric) == (task, FLAGS.metric)]
    if not found:
        have = ", ".join(sorted({f"{row.task}/{row.metric}" for row in rows}))
        raise CvrError(f"--task={task} --metric={FLAGS.metric}: no such rows; there are {have}")
    keys = [row.key for row in found]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise CvrError(f"--results: study {twice[0]}, {twice[1]}={twice[2]:g}, seed {twice[4]} is in two tables; give each study once")
    return found


def numbers(name: str, convert: Callable[[str], float], least: float) -> list[float]:
    """A list flag as numbers greater than `least`. Raises CvrError for anything else."""
    try:
        found = [convert(text) for text in FLAGS[name].value]
    except ValueError as error:
        raise CvrError(f"--{name}={','.join(FLAGS[name].value)}: {error}; expected numbers with commas between") from error
    if not found or min(found) <= least:
        raise CvrError(f"--{name}={','.join(FLAGS[name].value)}: expected one or more numbers greater than {least:g}")
    return found


def latency_of_flags() -> Latency | None:
    """P99 by FLOPs: all of a batch's service time grows in proportion, an upper bound where part of it is fixed. None without a curve."""
    if FLAGS.serving_curve is None:
        if FLAGS.p99_ms is not None:
            raise CvrError("--p99_ms needs --serving_curve=FILE, as tools.simulate_serving --measure=FILE writes it")
        return None
    machine, lengths = read_machine(Path(FLAGS.serving_curve)), [int(size) for size in numbers("sizes", int, 0)]

    @functools.cache
    def latency(ratio: float) -> float:
        slower = dataclasses.replace(machine, batch=machine.batch.scaled(ratio))
        return run(slower, Batching(), lengths, FLAGS.rate, FLAGS.num_simulated, FLAGS.seed).quantile_ms(0.99)

    return latency


def make_plan() -> report.Plan:
    """The plan that the flags ask for. Raises CvrError without an axis."""
    latency, factors = latency_of_flags(), numbers("factors", float, 1)
    rows, draws = read_rows(), Draws(FLAGS.replicates, FLAGS.seed)
    axes = axes_of(rows, draws)
    if not axes:
        raise CvrError("--results: no axis of two or more levels in the tables (only factorials or single levels): nothing to fit")
    budget = Budget(FLAGS.budget_flops_per_item, FLAGS.budget_training, FLAGS.budget_memory, FLAGS.p99_ms)
    steps = [step for axis in axes for step in steps_of(axis, factors, budget, latency)]
    names = ("results", "rate", "sizes", "factors", "rank_by", "replicates", "seed", "serving_curve")
    return report.Plan(
        metric=FLAGS.metric,
        task=rows[0].task,
        axes=axes,
        interactions=interactions(rows, draws),
        steps=ranked(steps, FLAGS.rank_by),
        points=points(rows),
        settings={"budget": dataclasses.asdict(budget), **{name: FLAGS[name].value for name in names}},
    )


def main(argv: Sequence[str]) -> int:
    """Plans and publishes; the exit code is 0 also where no step can be recommended."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every option is a flag (--name=value)")
    output = Path(FLAGS.output)
    if (output / RESULT).is_file():
        raise CvrError(f"--output={output} already holds a plan; choose another folder or remove it")
    plan = make_plan()
    output.mkdir(parents=True, exist_ok=True)
    figures.write_curves(plan.axes, output / "curves.png", plan.metric)
    figures.write_fronts(plan.points, output / "pareto.png", plan.metric)
    figures.write_steps(plan.steps, output / "steps.png", plan.metric)
    text = report.markdown(plan)
    (output / "plan.md").write_text(text, encoding="utf-8")
    publish_json(output / RESULT, without_nan(report.as_json(plan)))
    print(text)
    if not all(axis.cells.over_lists for axis in plan.axes):
        print("without the evaluations' values per list the intervals are about seeds only, on these very lists")
    print(f"written to {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=lambda argv: app.parse_flags_with_usage(list(argv)))


if __name__ == "__main__":
    entry()
