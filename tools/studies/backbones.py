"""Every backbone tuned with the same small budget, then trained with several seeds: the jobs of that study, and what they found."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvr.errors import CvrError
from tools.studies.jobs import Command, Job

Choice = tuple[tuple[str, str], ...]
"""Flags of one configuration: ((name, value), ..)."""


def parse_grid(text: str) -> list[Choice]:
    """`"dropout=0.2,0.4;learning_rate=0.002"` -> all combinations. Raises CvrError for a part without a name or values."""
    axes = []
    for part in filter(None, text.split(";")):
        name, _, values = part.partition("=")
        if not name.strip() or not all(value.strip() for value in values.split(",")):
            raise CvrError(f"--grid: {part!r} is not name=value,value")
        axes.append([(name.strip(), value.strip()) for value in values.split(",")])
    return list(itertools.product(*axes))


@dataclasses.dataclass(frozen=True)
class Study:
    """What is trained: a flagfile, the lists, the splits to tune on, and the split that reports."""

    output: Path
    flagfile: str
    lists: str
    splits: tuple[str, str, str] = ("train", "validation", "test")
    threads: int = 0

    def _train(self, folder: Path, backbone: str, choice: Choice, extra: Sequence[str]) -> Command:
        words = ["cvr.train", f"--flagfile={self.flagfile}", f"--backbone={backbone}", f"--lists={self.lists}", f"--output={folder}"]
        words += [f"--{name}={value}" for name, value in choice]
        return Command((*words, f"--threads={self.threads}", *extra), folder / "run.json")

    def _folder(self, stage: str, backbone: str, name: str) -> Path:
        return self.output / stage / backbone / name

    def tuning(self, backbone: str, choices: Sequence[Choice]) -> dict[Choice, Job]:
        """A job per configuration, all with seed 0: trained on the first split, measured on the second."""
        train, validation, _ = self.splits
        jobs = {}
        for choice in choices:
            name = "_".join(f"{key}={value}" for key, value in choice) or "default"
            folder = self._folder("tuning", backbone, name)
            extra = (f"--train_splits={train}", f"--validation_split={validation}", "--seed=0")
            jobs[choice] = Job(f"{backbone} {name}", (self._train(folder, backbone, choice, extra),), _log(folder))
        return jobs

    def final(self, backbone: str, choice: Choice, seeds: int) -> list[Job]:
        """A job per seed: trained on both first splits, evaluated on the third."""
        train, validation, test = self.splits
        jobs = []
        for seed in range(seeds):
            folder = self._folder("final", backbone, f"seed{seed}")
            extra = (f"--train_splits={train},{validation}", "--validation_split=", f"--seed={seed}")
            evaluation = self.evaluation(backbone, seed)
            words = ("cvr.evaluate", f"--run={folder}", f"--lists={self.lists}", f"--split={test}", f"--output={evaluation}")
            commands = (self._train(folder, backbone, choice, extra), Command(words, evaluation / "summary.json"))
            jobs.append(Job(f"{backbone} seed {seed}", commands, _log(folder)))
        return jobs

    def evaluation(self, backbone: str, seed: int) -> Path:
        """Folder of a seed's evaluation."""
        return self._folder("final", backbone, f"evaluation{seed}")

    def run_info(self, backbone: str, seed: int) -> dict[str, Any]:
        """What a seed's training wrote about itself."""
        return read(self._folder("final", backbone, f"seed{seed}") / "run.json")


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def outcomes(jobs: Mapping[Choice, Job], task: str) -> dict[Choice, float]:
    """Validation mAP of each finished configuration."""
    return {choice: float(read(job.commands[0].done)["validation"][task]) for choice, job in jobs.items()}


def best(found: Mapping[Choice, float]) -> Choice:
    """The configuration with the highest validation mAP; of equals the first."""
    return max(found, key=lambda choice: found[choice])


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds (0 for one)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
