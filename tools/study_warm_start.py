"""Warm starts against training from scratch, on synthetic logs: quality, cost, and drift over a chain of launches.

python -m tools.study_warm_start --output=<folder> [--quick] [--base=configs/demo.flags] [--margin=0.005] [--parallel=2 --threads=1]

A base trained on long data is fine-tuned on the recent days before each launch; tools/studies/warm_start.py has the arms. Rates of
`scratch`, `recent` and `warm` are chosen from the same --grid on a launch before the first one. Every run is a command of its own
(`--print_commands`), a finished one is never repeated. Writes `table.md`, `warm_start.png` and, last, `study.json`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from cvr.errors import CvrError, run_main
from cvr.evaluate import without_nan
from cvr.manifest import load_manifest, publish_json
from tools.comparison.evaluations import Evaluations, System
from tools.comparison.statistics import Resampling, compare
from tools.comparison.table import Row, correct
from tools.studies.backbones import Choice, best, outcomes, parse_grid, spread
from tools.studies.jobs import Job, execute, print_commands
from tools.studies.warm_start import FULL, QUICK, WarmStudy, estimate, specs
from tools.studies.warm_start_cost import Costs, describe, flops, item_epochs
from tools.studies.warm_start_figure import write_figure
from tools.synthetic.settings import Settings

FLAGS = flags.FLAGS
RESULT = "study.json"
SPEC = Path("configs/features/synthetic.yaml")
GRID = "learning_rate=0.0005,0.002;table_learning_rate=0.0005,0.002"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("output", None, "Folder of the study; runs that are finished there are kept.", required=True)
    flags.DEFINE_bool("quick", False, "A tiny one, to see that it works; its numbers mean nothing.")
    flags.DEFINE_string("base", "configs/demo.flags", "Flagfile that every run starts from.")
    flags.DEFINE_string("grid", GRID, "Configurations to choose from: name=value,value;name=value,..")
    flags.DEFINE_float("margin", 0.005, "Difference in mAP below which two ways to train count as equivalent.", lower_bound=0.0)
    flags.DEFINE_integer("parallel", 1, "Runs at the same time.", lower_bound=1)
    flags.DEFINE_integer("threads", 0, "TensorFlow's threads in each training; 0 lets it choose.", lower_bound=0)
    flags.DEFINE_bool("print_commands", False, "Print the commands of the first stage that is not finished, and stop.")
    flags.DEFINE_integer("replicates", 10_000, "Bootstrap replicates.", lower_bound=100)


def study() -> WarmStudy:
    """The study that the flags ask for, its specs written. Raises CvrError where there is no flagfile."""
    if not Path(FLAGS.base).is_file():
        raise CvrError(f"no flagfile at --base={FLAGS.base}")
    this = WarmStudy(Path(FLAGS.output), FLAGS.base, QUICK if FLAGS.quick else FULL, FLAGS.threads)
    this.output.mkdir(parents=True, exist_ok=True)
    for name, text in specs(SPEC.read_text(encoding="utf-8"), Settings().date(this.size.base_days)).items():
        this.spec_file(name).write_text(text, encoding="utf-8")
    return this


def stage(title: str, jobs: Sequence[Job]) -> bool:
    """Runs a stage's unfinished jobs; with --print_commands it prints them instead, and False is the answer if there are any."""
    if not FLAGS.print_commands:
        execute(jobs, FLAGS.parallel, title)
    print_commands(jobs if FLAGS.print_commands else [])
    return all(job.finished for job in jobs)


def tune(this: WarmStudy, choices: Sequence[Choice]) -> dict[str, dict[Choice, float]] | None:
    """mAP of every configuration of every arm at launch 0; None where commands were printed."""
    jobs = {arm: this.tuning(arm, choices) for arm in ("scratch", "recent", "warm")}
    if not stage("tuning", [*jobs["scratch"].values(), *jobs["recent"].values()]):
        return None
    task = load_manifest(str(this.lists(0))).spec().primary_task
    chosen = best(outcomes(jobs["scratch"], task))
    if not stage("base to tune from", [this.tuning_base(chosen)]) or not stage("tuning of warm starts", [*jobs["warm"].values()]):
        return None
    return {arm: outcomes(own, task) for arm, own in jobs.items()}


class Results:
    """Comparisons of the arms' evaluations."""

    def __init__(self, this: WarmStudy, task: str) -> None:
        self._this, self._task = this, task
        self.maps: dict[str, list[float]] = {}

    def row(self, launch: int, reference: str, arm: str) -> Row:
        """An arm against another of the same launch; their mAP by seed goes to `maps`."""
        size = self._this.size
        seeds = range(size.seeds if launch == 1 else size.chain_seeds)
        systems = [System(name, tuple(self._this.evaluation(name, launch, seed) for seed in seeds)) for name in (reference, arm)]
        values = Evaluations(systems, same_data=False).values(self._task, "map").systems
        for name, by_list in values.items():
            self.maps[f"{launch} {name}"] = [float(mean) for mean in by_list.mean(axis=1)]
        found = compare(values[reference], values[arm], Resampling(FLAGS.replicates, margin=FLAGS.margin))
        return Row(self._task, "map", "launch", str(launch), reference, arm, found)


def drift(first: Row, last: Row) -> dict[str, Any]:
    """Change of a chain's difference from its first launch to its last; the test days are others, so variances add up."""
    change = last.found.difference - first.found.difference
    error = math.sqrt(sum(row.found.se_lists**2 + row.found.se_seeds**2 for row in (first, last)))
    return {"arm": last.system, "change": change, "interval": [change - 1.96 * error, change + 1.96 * error]}


def costs_of(this: WarmStudy) -> dict[str, Costs]:
    """Mean over seeds of what the runs of launch 1 cost, by unit."""
    units = {"FLOPs": flops, "item-epochs": item_epochs, "seconds": lambda run: run["seconds_train"]}
    found = {}
    for unit, value in units.items():
        arms = ("base", "scratch", "warm", "recent")
        means = [float(np.mean([value(this.info(arm, 1, seed)) for seed in range(this.size.seeds)])) for arm in arms]
        found[unit] = Costs(*means)
    return found


def chain_cost(this: WarmStudy) -> dict[str, float]:
    """FLOPs of all launches, first seed: each from scratch, and one base with a chain."""
    launches = range(1, this.size.launches + 1)
    total = {arm: sum(flops(this.info(arm, launch, 0)) for launch in launches) for arm in ("scratch", "chain")}
    return {"scratch": total["scratch"], "chain": total["chain"] + flops(this.info("base", 1, 0))}


def markdown(rows: Sequence[Row], maps: Mapping[str, Sequence[float]]) -> str:
    """A row per comparison."""
    titles = ("launch", "arm", "test mAP", "seeds (sd)", "against", "difference", "p", "p equivalent", "detectable", "verdict")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        found, (mean, sd) = row.found, spread(maps[f"{row.slice} {row.system}"])
        low, high = found.interval
        own = (row.slice, row.system, f"{mean:.4f}", f"{found.seeds[1]} (±{sd:.4f})", f"{row.reference}, {found.reference:.4f}")
        tests = (f"{row.p:.3f}", f"{row.p_equivalent:.3f}", f"{found.mde:.4f}", row.verdict)
        lines.append(f"| {' | '.join((*own, f'{found.difference:+.4f} [{low:+.4f}, {high:+.4f}]', *tests))} |")
    return "\n".join(lines) + "\n"


def report(this: WarmStudy, tuned: Mapping[str, Mapping[Choice, float]]) -> None:
    """Compares, writes table, figure and JSON. P-values are corrected among the arms of launch 1 and, apart, in the chain."""
    results = Results(this, load_manifest(str(this.lists(1))).spec().primary_task)
    pairs = [("scratch", arm) for arm in ("base", "recent", "warm")]
    pairs += [("scratch_feature", "warm_feature"), ("scratch", "scratch_feature")]
    arms = correct([results.row(1, reference, arm) for reference, arm in pairs], "holm")
    later = range(2, this.size.launches + 1)
    chain = correct([results.row(launch, "scratch", arm) for arm in ("chain", "fixed") for launch in later], "holm")
    warm = next(row for row in arms if row.system == "warm")
    kinds = [[warm, *(row for row in chain if row.system == arm)] for arm in ("chain", "fixed")]
    costs, drifts = costs_of(this), [drift(rows[0], rows[-1]) for rows in kinds]
    text = markdown([*arms, *chain], results.maps)
    counts = sorted({1, this.size.launches, 10, 20})
    text += "\n" + "\n".join(describe(unit, found, counts) for unit, found in costs.items())
    for found in drifts:
        low, high = found["interval"]
        text += f"\ndrift of {found['arm']}, launch 1 to {this.size.launches}: {found['change']:+.4f} [{low:+.4f}, {high:+.4f}]"
    total = chain_cost(this)
    text += f"\nall {this.size.launches} launches: scratch {total['scratch']:.4g} FLOPs, base and chain {total['chain']:.4g}\n"
    (this.output / "table.md").write_text(text, encoding="utf-8")
    labels = ("base, not fine-tuned", "recent days only", "warm start", "warm start, new feature")
    lines = dict(zip(("each from the one before", "each from the first base"), kinds, strict=True))
    write_figure(dict(zip(labels, arms, strict=False)), lines, FLAGS.margin, this.output / "warm_start.png")
    result = {
        "size": dataclasses.asdict(this.size),
        "margin": FLAGS.margin,
        "tuning": {arm: [{**dict(choice), "map": value} for choice, value in own.items()] for arm, own in tuned.items()},
        "arms": [row.as_json() for row in arms],
        "chain": [row.as_json() for row in chain],
        "maps": results.maps,
        "drift": drifts,
        "costs": {unit: {**dataclasses.asdict(found), "break_even": found.break_even} for unit, found in costs.items()},
        "chain_flops": total,
    }
    publish_json(this.output / RESULT, without_nan(result))
    print(text)


def main(argv: Sequence[str]) -> int:
    """Runs what is not finished, then writes table and plot."""
    del argv
    this, choices = study(), parse_grid(FLAGS.grid)
    placeholder = dict.fromkeys(("scratch", "recent", "warm"), choices[0])
    if not FLAGS.print_commands:
        tuning = [job for arm in placeholder for job in this.tuning(arm, choices).values()]
        left = estimate([*tuning, *this.from_scratch(placeholder), *this.warm(placeholder)], this.size) / FLAGS.parallel
        print(f"equivalent: within ±{FLAGS.margin} mAP, two one-sided tests at 5 %; about {left:.0f} min of runs are left", flush=True)
    if not stage("logs", this.logs()) or not stage("lists", this.build()):
        return 0
    tuned = tune(this, choices)
    if tuned is None:
        return 0
    chosen = {arm: best(own) for arm, own in tuned.items()}
    if stage("from scratch", this.from_scratch(chosen)) and stage("warm starts", this.warm(chosen)):
        report(this, tuned)
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
