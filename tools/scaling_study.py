"""Scaling studies of the paper, each a declared list of runs: `python -m tools.scaling_study --study=backbone --output=<folder> [--quick]`.

Without --lists or --logs on a synthetic log. Every run is a command of its own (--print_commands), a finished one is never repeated.
Writes results.parquet and .csv (a row per run), report.html, table.md, plots/ and, last, study.json. docs/scaling.md explains all of it.
"""

from __future__ import annotations

import dataclasses
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.evaluate import without_nan
from cvr.manifest import load_manifest, publish_json
from tools.comparison.statistics import Resampling
from tools.scaling import report, studies
from tools.scaling.declare import Contrast, Finding, Period, Setup, Study, change
from tools.scaling.estimate import START, minutes_left, pilots
from tools.scaling.followed import Options, run
from tools.scaling.logs import FULL, QUICK, SYNTHETIC_SPEC, Source
from tools.scaling.results import Results
from tools.scaling.runs import Runs
from tools.scaling.status import findings, judge
from tools.studies.backbones import Choice, best, outcomes, parse_grid, read
from tools.studies.jobs import Job, execute, print_commands
from tools.tracking.table import write_results

FLAGS = flags.FLAGS
RESULT, TABLE = "study.json", "results.parquet"
GRID = "learning_rate=0.001,0.002,0.004"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_enum("study", None, studies.names(), "What is scaled.", required=True)
    flags.DEFINE_string("output", None, "Folder of the study; runs that are finished there are kept.", required=True)
    flags.DEFINE_bool("quick", False, "Few days, two levels, two seeds: minutes; its numbers mean nothing.")
    flags.DEFINE_string("base", "configs/demo.flags", "Flagfile that every run starts from.")
    flags.DEFINE_string("lists", None, "Finished search lists with splits train, validation and test, for studies that need no others.")
    flags.DEFINE_string("logs", None, "Log to build lists from, for the studies that build their own; by default a synthetic one is made.")
    flags.DEFINE_string("source", "canonical", "Format of --logs.")
    flags.DEFINE_string("spec", SYNTHETIC_SPEC, "Feature spec of --logs.")
    flags.DEFINE_list("period", None, "Times (ISO 8601) of --logs: first training list, first validation list, first test list, end.")
    flags.DEFINE_string("run", None, "Trained runs of one configuration, for --study=importance.")
    flags.DEFINE_string("export", None, "Exported model, for --study=serving.")
    flags.DEFINE_integer("days", None, "Training days of the synthetic log.", lower_bound=4)
    flags.DEFINE_integer("searches_per_day", None, "Searches per day of the synthetic log.", lower_bound=1)
    flags.DEFINE_integer("seeds", None, f"Seeds of each arm; by default {FULL.seeds}, with --quick {QUICK.seeds}.", lower_bound=1)
    flags.DEFINE_string("grid", None, f"Configurations to tune each family with, name=value,value;name=value,..; by default {GRID}.")
    flags.DEFINE_float("margin", 0.005, "Difference in mAP below which two configurations count as equivalent.", lower_bound=0.0)
    flags.DEFINE_integer("parallel", 1, "Runs at the same time.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "TensorFlow's threads in each run; 0 lets it choose.", lower_bound=0)
    flags.DEFINE_bool("print_commands", False, "Print the commands of the first stage that is not finished, and stop.")
    flags.DEFINE_integer("replicates", 10_000, "Bootstrap replicates.", lower_bound=100)


def source(module: ModuleType) -> Source:
    """Where the lists of a study come from. Raises CvrError for flags that do not go together."""
    output = Path(FLAGS.output)
    if FLAGS.lists and FLAGS.logs:
        raise CvrError("--lists and --logs: give one of them")
    if FLAGS.lists:
        return Source(output, FLAGS.spec, given=FLAGS.lists)
    if not FLAGS.logs:
        size = QUICK if FLAGS.quick else FULL
        given = {"training_days": FLAGS.days, "searches_per_day": FLAGS.searches_per_day}
        size = dataclasses.replace(size, **{name: value for name, value in given.items() if value})
        spec, log_flags = getattr(module, "SPEC", SYNTHETIC_SPEC), getattr(module, "LOG_FLAGS", ())
        return Source(output, spec, folder=str(output / "logs"), period=size.period, size=size, log_flags=log_flags)
    if len(FLAGS.period or []) != 4:
        raise CvrError("--logs needs --period=<first>,<validation from>,<test from>,<end>, such as 2018-11-07,2018-11-08T10:35,..")
    try:
        times = [datetime.datetime.fromisoformat(text) for text in FLAGS.period]
    except ValueError as error:
        raise CvrError(f"--period: {error}") from error
    if times != sorted(set(times)):
        raise CvrError(f"--period={','.join(FLAGS.period)}: the four times must ascend")
    return Source(output, FLAGS.spec, folder=FLAGS.logs, reader=FLAGS.source, period=Period(*times))


def make_runs(module: ModuleType) -> Runs:
    """The study's runs as the flags say."""
    if not Path(FLAGS.base).is_file():
        raise CvrError(f"no flagfile at --base={FLAGS.base}")
    where = source(module)
    study = module.declare(Setup(FLAGS.quick, where.period))
    seeds = FLAGS.seeds or (QUICK if FLAGS.quick else FULL).seeds
    return Runs(study, where, Path(FLAGS.output), FLAGS.base, seeds, FLAGS.threads)


def stage(title: str, jobs: Sequence[Job]) -> bool:
    """Runs a stage's unfinished jobs; with --print_commands it prints them instead, and False is the answer if there are any."""
    if FLAGS.print_commands:
        print_commands(jobs)
    else:
        execute(jobs, FLAGS.parallel, title)
    return all(job.finished for job in jobs)


def tune(runs: Runs, task: str) -> dict[str, Choice] | None:
    """The configuration of each family with the highest validation mAP; None where commands were printed."""
    choices = parse_grid(("" if FLAGS.quick else GRID) if FLAGS.grid is None else FLAGS.grid)
    jobs = runs.tuning(choices)
    if not stage("tuning", [job for own in jobs.values() for job in own.values()]):
        return None
    return {family: best(outcomes(jobs[family], task)) if jobs else choices[0] for family in runs.study.families}


def train(runs: Runs, chosen: dict[str, Choice]) -> bool:
    """All trainings and evaluations, with an estimate of their time from the first ones."""
    jobs = runs.jobs(chosen)
    if not FLAGS.print_commands:
        execute(pilots(runs, jobs), 1, "to estimate from")
        left = minutes_left(runs, jobs) / FLAGS.parallel
        count = sum(not job.finished for job in jobs.values())
        print(f"{count} runs are left, about {left:.0f} min: estimated from finished ones, {START:.0f} s each beside training", flush=True)
    return stage("runs", list(jobs.values()))


def arms_table(study: Study) -> list[Contrast]:
    """Every arm against the reference."""
    others = [arm.name for arm in study.evaluated if arm.name != study.reference]
    return [Contrast(name, change(study.reference, name), table=report.ARMS) for name in others]


def publish(runs: Runs, module: ModuleType, chosen: dict[str, Choice], task: str) -> None:
    """Table, page, Markdown, plots and, last, the JSON."""
    study, output, how = runs.study, runs.output, Resampling(FLAGS.replicates, margin=FLAGS.margin)
    seeds = range(runs.seeds)
    evaluations = {arm.name: [runs.evaluation(arm.name, seed) for seed in seeds] for arm in study.evaluated}
    infos = {arm.name: [runs.info(arm.name, seed) for seed in seeds] for arm in study.arms}
    results = Results(study, evaluations, infos, task)
    write_results(output / TABLE, results.rows(output))
    judged = judge([*arms_table(study), *module.contrasts(study, results)], results, how)
    found = by_number([*module.findings(study, results, how), *findings(judged)])
    quick = ", a quick run: its numbers mean nothing" if FLAGS.quick else ""
    alone = " seed per arm: intervals are about these trained models, not about others trained alike"
    about = f"task {task}, mAP on the test split, {runs.seeds}{' seeds per arm' if runs.seeds > 1 else alone}{quick}"
    empty = report.Report(study.title, _command(), about, FLAGS.margin)
    made = report.make_report(results, judged, found, module.sections(study, results, judged), empty)
    report.write(made, output)
    publish_json(output / RESULT, without_nan({
        "study": study.name, "task": task, "margin": FLAGS.margin, "command": _command(), "quick": FLAGS.quick,
        "findings": [dataclasses.asdict(one) for one in found],
        "contrasts": [one.as_json() for one in judged],
        "chosen": {family: dict(choice) for family, choice in chosen.items()},
    }))  # fmt: skip
    say(found)


def by_number(found: Sequence[Finding]) -> list[Finding]:
    """Findings in the order of the requirements' numbers; those without one come last."""

    def place(one: Finding) -> tuple[float, str]:
        digits = "".join(filter(str.isdigit, one.requirement))
        return float(digits or "inf"), one.requirement

    return sorted(found, key=place)


def say(found: Sequence[Finding]) -> None:
    """The status words, and where the page is."""
    print("\n".join(f"{one.requirement}: {one.word}" for one in found))
    print(Path(FLAGS.output) / "report.html")


def follow(module: ModuleType) -> None:
    """A study that another command makes: runs it, and writes its page and `study.json`."""
    given = {name: FLAGS[name].value for name in ("quick", "base", "margin", "parallel", "threads", "replicates", "lists", "run", "export")}
    options = Options(Path(FLAGS.output), **given)
    command = module.command(options)
    if FLAGS.print_commands:
        print("" if command.finished else f"{command.line}\n", end="")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    run(command)
    found, sections = module.report(read(command.done), options)
    about = "a quick run: its numbers mean nothing" if FLAGS.quick else f"measured by {command.words[0]}"
    sections = (report.findings_section(by_number(found)), *sections)
    report.write(report.Report(module.TITLE, _command(), about, FLAGS.margin, sections), options.output)
    content = {"study": FLAGS.study, "command": _command(), "findings": [dataclasses.asdict(one) for one in found]}
    publish_json(options.output / RESULT, content)
    say(found)


def _command() -> str:
    return shlex.join(["python", "-m", "tools.scaling_study", *sys.argv[1:]])


def main(argv: Sequence[str]) -> int:
    """Runs what is not finished, then writes the results."""
    del argv
    module = studies.load(FLAGS.study)
    if hasattr(module, "command"):
        follow(module)
        return 0
    runs = make_runs(module)
    runs.output.mkdir(parents=True, exist_ok=True)
    if not stage("log", runs.source.make_logs()) or not stage("lists", runs.data()):
        return 0
    task = load_manifest(str(runs.source.path(runs.study.lists[0]))).spec().primary_task
    chosen = tune(runs, task)
    if chosen is not None and train(runs, chosen):
        publish(runs, module, chosen, task)
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
