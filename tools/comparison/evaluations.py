"""Evaluations of several systems on the same lists, aligned list by list."""

from __future__ import annotations

import dataclasses
import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cvr.errors import CvrError

NOT_METRICS = ("search_id", "time", "items", "positives", "task")
SAME = ("items", "positives", "time")
"""What must agree, list by list, in all evaluations."""


@dataclasses.dataclass(frozen=True)
class System:
    """One thing to compare: the evaluation folders of its seeds, or, without any, a baseline that each evaluation has beside its model."""

    name: str
    folders: tuple[Path, ...]


def parse_systems(arguments: Sequence[str]) -> list[System]:
    """`[name=]folder[,folder..]`, folders also as a glob; a word that is no folder, such as display_order, names a baseline.

    Without a name, a system is called as its folders are, with the path where their own names are not different.

    Raises CvrError for less than two systems, a folder without an evaluation, one given twice, and names given twice.
    """
    if len(arguments) < 2:
        raise CvrError("give the evaluations of two or more systems, the reference first: eval_a eval_b")
    systems = [_parse(argument) for argument in arguments]
    short = [",".join(folder.name for folder in system.folders) or system.name for system in systems]
    if len(set(short)) == len(short):
        named = ["=" in argument for argument in arguments]
        systems = [s if given else dataclasses.replace(s, name=name) for s, name, given in zip(systems, short, named, strict=True)]
    folders = [folder.resolve() for system in systems for folder in system.folders]
    twice = {str(folder) for folder in folders if folders.count(folder) > 1}
    if twice:
        raise CvrError(f"{min(twice)} is given twice; a seed counts once, and in one system")
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise CvrError(f"two systems are called {max(names, key=names.count)!r}; name them: a=<folder> b=<folder>")
    if not folders:
        raise CvrError(f"none of {', '.join(names)} is a folder; give at least one evaluation (output of cvr.evaluate)")
    return systems


def _parse(argument: str) -> System:
    name, equals, text = argument.partition("=")
    parts = (text if equals else argument).split(",")
    found = [Path(path) for part in parts for path in (sorted(glob.glob(part)) if glob.has_magic(part) else [part])]
    if not found:
        raise CvrError(f"no folder fits {argument!r}")
    if len(found) == 1 and not found[0].exists() and str(found[0]).isidentifier():
        return System(name if equals else str(found[0]), ())
    for folder in found:
        if not (folder / "summary.json").is_file():
            raise CvrError(f"no finished evaluation in {folder} (summary.json); make it with cvr.evaluate or tools.gbdt_baseline")
    return System(name if equals else ",".join(part.rstrip("/") for part in parts), tuple(found))


@dataclasses.dataclass(frozen=True)
class Values:
    """A metric's values of one task where it is defined: `lists` has a row per list, `systems` the values `[S, Q]` by name."""

    lists: pd.DataFrame
    systems: dict[str, np.ndarray]


class Evaluations:
    """All folders of all systems, read and checked.

    Raises CvrError naming what differs: the split, the lists' data (unless `same_data` is off), the searches, or the labels of one.
    """

    def __init__(self, systems: Sequence[System], same_data: bool = True) -> None:
        self.systems = list(systems)
        folders = [folder for system in systems for folder in system.folders]
        self._first = folders[0]
        self.about = _summary(self._first)
        for folder in folders[1:]:
            _check_about(self._first, self.about, folder, _summary(folder), ("split", "data") if same_data else ("split",))
        frames = {folder: _read(folder) for folder in folders}
        in_all = [set(frame["task"]) for frame in frames.values()]
        self.tasks = [task for task in frames[self._first]["task"].unique() if all(task in tasks for tasks in in_all)]
        self._frames = {folder: {t: _of_task(frame, t, folder) for t in self.tasks} for folder, frame in frames.items()}
        for folder in folders[1:]:
            for task in self.tasks:
                self._align(folder, task)

    def _align(self, folder: Path, task: str) -> None:
        """Brings a task's lists into the first folder's order."""
        mine, first = self._frames[folder][task], self._frames[self._first][task]
        only = first.index.symmetric_difference(mine.index)
        if len(only):
            owner = self._first if only[0] in first.index else folder
            raise CvrError(f"{self._first} and {folder} rank different lists: {len(only):,} are in one only, such as {only[0]} in {owner}")
        mine = mine.loc[first.index]
        for column in SAME:
            differs = mine[column].to_numpy() != first[column].to_numpy()
            if differs.any():
                place = int(np.argmax(differs))
                raise CvrError(
                    f"task {task}, list {first.index[place]}: {column} is {first[column].iloc[place]} in {self._first} and "
                    f"{mine[column].iloc[place]} in {folder}; evaluate both on the same lists"
                )
        self._frames[folder][task] = mine

    def values(self, task: str, metric: str) -> Values:
        """A metric of a task. Raises CvrError where a folder lacks it, or it is defined on other lists than in the first folder."""
        found = {system.name: np.stack(self._columns(system, task, metric)) for system in self.systems}
        defined = np.isfinite(next(iter(found.values()))[0])
        for name, values in found.items():
            if np.any(np.isfinite(values) != defined):
                raise CvrError(f"task {task}: {metric} of {name} is not defined on the same lists as that of {self.systems[0].name}")
        if defined.sum() < 2:
            raise CvrError(f"task {task}: {metric} is defined on {defined.sum()} lists; at least 2 are needed; choose others with --tasks")
        lists = self._frames[self._first][task].reset_index()[defined].reset_index(drop=True)
        return Values(lists, {name: values[:, defined] for name, values in found.items()})

    def _columns(self, system: System, task: str, metric: str) -> list[np.ndarray]:
        if system.folders:
            return [self._column(folder, task, metric) for folder in system.folders]
        try:
            return [self._column(self._first, task, f"{metric}_{system.name}")]
        except CvrError as error:
            raise CvrError(f"{system.name} is neither a folder nor, for {metric}, a baseline: {error}") from error

    def _column(self, folder: Path, task: str, name: str) -> np.ndarray:
        frame = self._frames[folder][task]
        if name not in frame:
            have = [column for column in frame if column not in NOT_METRICS]
            raise CvrError(f"{folder}: per_list.parquet has no column {name!r}; there are {', '.join(have)}")
        return frame[name].to_numpy(np.float64)


def _summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def _check_about(first: Path, about: dict[str, Any], folder: Path, other: dict[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        if about[key] != other[key]:
            hint = "; --nosame_data compares them if searches and labels agree" if key == "data" else ""
            raise CvrError(f"{key} is {about[key]} in {first} and {other[key]} in {folder}; evaluate both on the same lists{hint}")


def _read(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "per_list.parquet")


def _of_task(frame: pd.DataFrame, task: str, folder: Path) -> pd.DataFrame:
    found = frame[frame["task"] == task].set_index("search_id")
    if found.index.has_duplicates:
        raise CvrError(f"{folder}: search {found.index[found.index.duplicated()][0]} has two lists of task {task}; they cannot be paired")
    return found
