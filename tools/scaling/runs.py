"""The runs of a study: tuning of each family, then a training and an evaluation per arm and seed, after the runs that it needs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.scaling.declare import Arm, Study
from tools.scaling.logs import Source
from tools.studies.backbones import Choice, read
from tools.studies.jobs import Command, Job


def slug(name: str) -> str:
    """A name that a folder can have."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_")


@dataclasses.dataclass(frozen=True)
class Runs:
    """Jobs of a study in a folder, all from one flagfile."""

    study: Study
    source: Source
    output: Path
    flagfile: str
    seeds: int
    threads: int = 0

    def folder(self, arm: str, seed: int) -> Path:
        """Of a training."""
        return self.output / "runs" / slug(arm) / f"seed{seed}"

    def evaluation(self, arm: str, seed: int) -> Path:
        """Of a training's evaluation on the test split."""
        return self.output / "evaluations" / slug(arm) / f"seed{seed}"

    def info(self, arm: str, seed: int) -> dict[str, Any]:
        """What a training wrote about itself."""
        return read(self.folder(arm, seed) / "run.json")

    def _train(self, arm: Arm, folder: Path, choice: Choice, seed: int) -> Command:
        words = [arm.program, f"--lists={self.source.path(arm.lists)}", f"--output={folder}", f"--seed={seed}", f"--threads={self.threads}"]
        if arm.is_evaluated:
            words[1:1] = [f"--flagfile={self.flagfile}"]
            words += ["--train_splits=train", "--validation_split=validation"]
        spec = self.source.model_spec(slug(arm.name), arm.lists, arm.edits)
        words += [f"--spec={spec}"] if spec else []
        flags = arm.flags_with(lambda name: self.folder(name, seed))
        return Command((*words, *(f"--{name}={value}" for name, value in (*choice, *flags))), folder / "run.json")

    def data(self) -> list[Job]:
        """Builds all lists."""
        return [job for lists in self.study.lists for job in self.source.build(lists)]

    def tuning(self, choices: Sequence[Choice]) -> dict[str, dict[Choice, Job]]:
        """Every configuration of every family's arm, seed 0; nothing where there is one configuration only."""
        return {} if len(choices) == 1 else {name: self._tuning(name, choices) for name in self.study.families}

    def _tuning(self, family: str, choices: Sequence[Choice]) -> dict[Choice, Job]:
        jobs, arm = {}, self.study.arm(self.study.families[family])
        for choice in choices:
            folder = self.output / "tuning" / slug(family) / slug("_".join(f"{key}={value}" for key, value in choice))
            command = self._train(arm, folder, choice, 0)
            jobs[choice] = Job(f"{family} {folder.name}", (command,), folder.with_name(f"{folder.name}.log"))
        return jobs

    def jobs(self, chosen: Mapping[str, Choice]) -> dict[tuple[str, int], Job]:
        """A job per arm and seed, in this order of seeds, so that what is interrupted has all arms of the first ones."""
        keys = ((arm, seed) for seed in range(self.seeds) for arm in self.study.arms)
        return {(arm.name, seed): self._job(arm, seed, chosen) for arm, seed in keys}

    def _job(self, arm: Arm, seed: int, chosen: Mapping[str, Choice]) -> Job:
        folder, evaluation = self.folder(arm.name, seed), self.evaluation(arm.name, seed)
        commands = [self._run(arm, seed, chosen)]
        if arm.is_evaluated:
            words = ("cvr.evaluate", f"--run={folder}", f"--lists={self.source.path(arm.lists)}", "--split=test", f"--output={evaluation}")
            commands.append(Command((*words, "--bootstrap=100"), evaluation / "summary.json"))
        needs = tuple(self._run(self.study.arm(name), seed, chosen) for name in arm.needs)
        return Job(f"{arm.name}, seed {seed}", tuple(commands), folder.with_name(f"{folder.name}.log"), needs)

    def _run(self, arm: Arm, seed: int, chosen: Mapping[str, Choice]) -> Command:
        """The command that makes an arm's run, with the flags that its family was tuned to."""
        return self._train(arm, self.folder(arm.name, seed), chosen[arm.family] if arm.family else (), seed)
