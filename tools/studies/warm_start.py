"""Warm starts against training from scratch on synthetic logs: the days, the lists and the runs of that study.

Launch i = 1..n happens on day launch(i) with the lists [0, launch(i)): long ones up to `recent_days` before it, which are the split
`train`, and the recent ones, the split `validation`. The split `test` are the `step_days` after it. Launch 0 comes one step earlier and
chooses the configurations; its test days are over before those of launch 1 begin.

| arm | starts from | trains on |
|---|---|---|
| `base` | scratch | the long days of launch 1 |
| `scratch` | scratch | everything before the launch |
| `recent` | scratch | the recent days |
| `warm` | `base` | the recent days of launch 1 |
| `chain` | the launch before's `chain`, at first `warm` | the recent days |
| `fixed` | `base` | the recent days |

`scratch` and `warm` also exist with a feature (`_feature`) that is launched on the first of the recent days, so that `base` lacks it.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.studies.backbones import Choice, read
from tools.studies.jobs import Command, Job
from tools.synthetic.settings import Settings

FEATURE = "semantic_score"
LONG, RECENT, TEST = "train", "validation", "test"
PLAIN, WITH_FEATURE = "plain", "feature"
WINDOW_DAYS = 3
"""The spec's longest attribution window; lists whose window is not over would be left out."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How many days, searches, launches and seeds."""

    searches_per_day: int
    base_days: int
    recent_days: int
    step_days: int
    launches: int
    seeds: int
    chain_seeds: int

    def launch(self, number: int) -> int:
        """The day of a launch: that of launch 1 is `base_days + recent_days`, each later one is `step_days` after the one before."""
        return self.base_days + self.recent_days + self.step_days * (number - 1)

    @property
    def days(self) -> int:
        """Days of the log: to the end of the last test days and of the attribution windows after it."""
        return self.launch(self.launches) + self.step_days + WINDOW_DAYS


FULL = Size(searches_per_day=1000, base_days=20, recent_days=4, step_days=4, launches=5, seeds=5, chain_seeds=3)
QUICK = Size(searches_per_day=60, base_days=5, recent_days=2, step_days=2, launches=2, seeds=2, chain_seeds=2)


def specs(text: str, introduced: datetime.date) -> dict[str, str]:
    """A spec without the feature, and with it as introduced on a day; both as YAML."""
    found = {}
    for name in (PLAIN, WITH_FEATURE):
        spec = yaml.safe_load(text)
        if name == WITH_FEATURE:
            spec["features"][FEATURE]["introduced_on"] = introduced
        else:
            del spec["features"][FEATURE]
        found[name] = yaml.safe_dump(spec, sort_keys=False)
    return found


@dataclasses.dataclass(frozen=True)
class WarmStudy:
    """The study's runs: a folder each, all from one flagfile, what was chosen for an arm on top."""

    output: Path
    flagfile: str
    size: Size
    threads: int = 0

    def folder(self, arm: str, launch: int, seed: int) -> Path:
        """An arm's run; `chain` and `fixed` of the first launch are `warm`."""
        known = "warm" if launch == 1 and arm in ("chain", "fixed") else arm
        return self.output / "runs" / f"launch{launch}" / known / f"seed{seed}"

    def evaluation(self, arm: str, launch: int, seed: int) -> Path:
        """That run's evaluation."""
        return self.output / "evaluations" / f"launch{launch}" / self.folder(arm, launch, seed).parent.name / f"seed{seed}"

    def lists(self, launch: int, spec: str = PLAIN) -> Path:
        """The lists of a launch."""
        return self.output / "lists" / f"{spec}{launch}"

    def spec_file(self, name: str) -> Path:
        """A spec that the study wrote."""
        return self.output / f"{name}.yaml"

    def logs(self) -> list[Job]:
        """The log of all days."""
        size, folder = self.size, self.output / "logs"
        words = ("tools.make_logs", f"--output={folder}", f"--days={size.days}", f"--searches_per_day={size.searches_per_day}")
        done = folder / "truth" / "config.json"
        return [Job("logs", (Command((*words, f"--feature_launch_day={size.base_days}"), done),), self.output / "logs.log")]

    def build(self) -> list[Job]:
        """The lists of every launch, and those of launch 1 with the feature."""
        jobs = []
        for launch, spec in [*((number, PLAIN) for number in range(self.size.launches + 1)), (1, WITH_FEATURE)]:
            folder, day = self.lists(launch, spec), self.size.launch(launch)
            times = {"validation_from": day - self.size.recent_days, "test_from": day, "end": day + self.size.step_days}
            words = [f"--{name}={Settings().date(value)}" for name, value in times.items()]
            words += [f"--input={self.output / 'logs'}", f"--spec={self.spec_file(spec)}", f"--output={folder}", "--popularity_bucket=none"]
            command = Command(("pipelines.build_lists", *words), folder / "manifest.json")
            jobs.append(Job(f"lists {folder.name}", (command,), folder.with_name(f"{folder.name}.log")))
        return jobs

    def _train(self, folder: Path, lists: Path, how: Sequence[str], choice: Choice) -> Command:
        words = ["cvr.train", f"--flagfile={self.flagfile}", f"--lists={lists}", f"--output={folder}", f"--threads={self.threads}"]
        return Command((*words, *(f"--{name}={value}" for name, value in choice), *how), folder / "run.json")

    def _splits(self, arm: str) -> str:
        return {"base": LONG, "scratch": f"{LONG},{RECENT}", "scratch_feature": f"{LONG},{RECENT}"}.get(arm, RECENT)

    def tuning(self, arm: str, choices: Sequence[Choice]) -> dict[Choice, Job]:
        """A job per configuration of an arm at launch 0, with seed 0, measured on its test days. `warm` needs `tuning_base`."""
        jobs = {}
        for choice in choices:
            folder = self.output / "tuning" / arm / ("_".join(f"{key}={value}" for key, value in choice) or "default")
            how = [f"--train_splits={self._splits(arm)}", f"--validation_split={TEST}", "--seed=0"]
            if arm == "warm":
                how.append(f"--warm_start_from={self.output / 'tuning' / 'base' / 'default'}")
            command = self._train(folder, self.lists(0), how, choice)
            jobs[choice] = Job(f"{arm} {folder.name}", (command,), folder.with_name(f"{folder.name}.log"))
        return jobs

    def tuning_base(self, choice: Choice) -> Job:
        """The base that configurations of `warm` start from, configured as `scratch` is."""
        folder = self.output / "tuning" / "base" / "default"
        how = (f"--train_splits={LONG}", "--validation_split=", "--seed=0")
        return Job("base", (self._train(folder, self.lists(0), how, choice),), folder.with_name("default.log"))

    def run(self, arm: str, launch: int, seed: int, choice: Choice, start: Path | None = None) -> Job:
        """A training and its evaluation on the launch's test days."""
        folder, evaluation = self.folder(arm, launch, seed), self.evaluation(arm, launch, seed)
        lists = self.lists(launch, WITH_FEATURE if arm.endswith("_feature") else PLAIN)
        how = [f"--train_splits={self._splits(arm)}", "--validation_split=", f"--seed={seed}"]
        if start is not None:
            how.append(f"--warm_start_from={start}")
        words = ("cvr.evaluate", f"--run={folder}", f"--lists={lists}", f"--split={TEST}", f"--output={evaluation}", "--bootstrap=100")
        commands = (self._train(folder, lists, how, choice), Command(words, evaluation / "summary.json"))
        return Job(f"{arm} launch {launch} seed {seed}", commands, folder.with_name(f"{folder.name}.log"))

    def from_scratch(self, chosen: Mapping[str, Choice]) -> list[Job]:
        """All runs that start from nothing."""
        jobs = []
        for seed in range(self.size.seeds):
            jobs += [self.run(arm, 1, seed, chosen["scratch"]) for arm in ("base", "scratch", "scratch_feature")]
            jobs.append(self.run("recent", 1, seed, chosen["recent"]))
        later = range(2, self.size.launches + 1)
        return jobs + [self.run("scratch", launch, seed, chosen["scratch"]) for seed in range(self.size.chain_seeds) for launch in later]

    def warm(self, chosen: Mapping[str, Choice]) -> list[Job]:
        """All warm starts; a chain is one job."""
        jobs, choice = [], chosen["warm"]
        for seed in range(self.size.seeds):
            base = self.folder("base", 1, seed)
            chain = self._chain(seed, choice, base)
            jobs += [chain, self.run("warm_feature", 1, seed, choice, base)]
            if seed < self.size.chain_seeds:
                jobs += [self.run("fixed", launch, seed, choice, base) for launch in range(2, self.size.launches + 1)]
        return jobs

    def _chain(self, seed: int, choice: Choice, base: Path) -> Job:
        """`warm`, and for the first seeds the launches after it, each from the one before."""
        links = [self.run("warm", 1, seed, choice, base)]
        for launch in range(2, self.size.launches + 1) if seed < self.size.chain_seeds else ():
            links.append(self.run("chain", launch, seed, choice, self.folder("chain", launch - 1, seed)))
        return Job(f"chain seed {seed}", tuple(command for link in links for command in link.commands), links[0].log)

    def info(self, arm: str, launch: int, seed: int) -> dict[str, Any]:
        """What a run wrote about itself."""
        return read(self.folder(arm, launch, seed) / "run.json")


def estimate(jobs: Sequence[Job], size: Size) -> float:
    """Minutes that unfinished jobs take one after the other: 9 s to start, 20,000 items/s, two epochs, 10 training items per search."""
    seconds = 0.0
    for command in _unfinished(jobs):
        seconds += 9
        if command.words[0] == "cvr.train":
            only_recent = f"--train_splits={RECENT}" in command.words
            seconds += 2 * 10 * size.searches_per_day * (size.recent_days if only_recent else size.days) / 20_000
    return seconds / 60


def _unfinished(jobs: Sequence[Job]) -> Iterator[Command]:
    return (command for job in jobs for command in job.commands if not command.finished)
