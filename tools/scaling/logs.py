"""Lists of a study: made from a synthetic log, from a log that is given, or given."""

from __future__ import annotations

import copy
import dataclasses
import datetime
from pathlib import Path
from typing import Any

import yaml

from cvr.errors import CvrError
from cvr.manifest import load_manifest
from tools.scaling.declare import Edits, Lists, Period
from tools.studies.jobs import Command, Job
from tools.synthetic.settings import Settings

SYNTHETIC_SPEC = "configs/features/synthetic.yaml"
MATURING = 3
"""Days of a synthetic log after the test days, in which the last purchases of their attribution windows happen."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Days and searches of a synthetic log, and seeds of each arm."""

    training_days: int
    validation_days: int
    test_days: int
    searches_per_day: int
    seeds: int

    @property
    def period(self) -> Period:
        """Its days without the maturing ones."""
        days = (0, self.training_days, self.training_days + self.validation_days, self.days - MATURING)
        return Period(*(datetime.datetime.combine(Settings().date(day), datetime.time()) for day in days))

    @property
    def days(self) -> int:
        """Of the log."""
        return self.training_days + self.validation_days + self.test_days + MATURING


FULL = Size(training_days=40, validation_days=2, test_days=7, searches_per_day=1500, seeds=3)
QUICK = Size(training_days=5, validation_days=1, test_days=2, searches_per_day=80, seeds=2)


def edited(text: str, edits: Edits) -> str:
    """A spec with changes. Raises CvrError where a path leads nowhere."""
    spec = yaml.safe_load(text)
    for path, value in edits:
        *parents, last = path.split(".")
        place = spec
        for name in parents:
            place = place.setdefault(name, {}) if name == "embedding" else _inside(place, name, path)
        if value is None:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)
    return str(yaml.safe_dump(spec, sort_keys=False))


def _inside(place: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    if not isinstance(place.get(name), dict):
        raise CvrError(f"the spec has no {name!r} of {path}; this study needs the features of {SYNTHETIC_SPEC}")
    return dict.__getitem__(place, name)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where lists come from: `given` ones, or built into `output` from the log `folder`; where `size` is not None, that is made
    first, with `log_flags`."""

    output: Path
    spec: str
    given: str | None = None
    folder: str = ""
    reader: str = "canonical"
    period: Period | None = None
    size: Size | None = None
    log_flags: tuple[tuple[str, str], ...] = ()

    def path(self, lists: Lists) -> Path:
        """Folder of lists."""
        return Path(self.given) if self.given else self.output / "lists" / lists.name

    def spec_text(self) -> str:
        """The spec before any change."""
        return load_manifest(self.given).spec_text if self.given else Path(self.spec).read_text(encoding="utf-8")

    def spec_file(self, name: str, edits: Edits) -> Path:
        """A changed spec, written."""
        path = self.output / "specs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(edited(self.spec_text(), edits), encoding="utf-8")
        return path

    def make_logs(self) -> list[Job]:
        """The synthetic log, where there is one to make."""
        if self.size is None:
            return []
        words = ["tools.make_logs", f"--output={self.folder}", f"--days={self.size.days}"]
        words += [f"--searches_per_day={self.size.searches_per_day}", "--feature_launch_day=0"]
        words += [f"--{name}={value}" for name, value in self.log_flags]
        command = Command(tuple(words), Path(self.folder) / "truth" / "config.json")
        return [Job("log", (command,), self.output / "logs.log")]

    def build(self, lists: Lists) -> list[Job]:
        """The job that builds lists; none for given ones."""
        if self.given or self.period is None:
            return []
        folder, period = self.path(lists), self.period
        times = {"validation_from": period.validation_from, "test_from": period.test_from, "end": period.end}
        if lists.share < 1:
            times["start"] = period.start(lists.share)
        edits = (*self._known(), *lists.edits)
        words = ["pipelines.build_lists", f"--source={self.reader}", f"--input={self.folder}"]
        words += [f"--{name}={value:%Y-%m-%dT%H:%M:%S}" for name, value in times.items()]
        words += [f"--spec={self.spec_file(f'lists_{lists.name}', edits)}", f"--output={folder}", "--popularity_bucket=none"]
        words += [f"--{name}={value}" for name, value in lists.flags]
        return [Job(f"lists {lists.name}", (Command(tuple(words), folder / "manifest.json"),), folder.with_name(f"{lists.name}.log"))]

    def _known(self) -> Edits:
        """A made log has all of its columns from its first day."""
        return (("features.semantic_score.introduced_on", None),) if self.size is not None else ()

    def model_spec(self, name: str, lists: Lists, edits: Edits) -> Path | None:
        """The spec that an arm trains with, where it is not that of its lists."""
        return self.spec_file(f"model_{name}", (*self._known(), *lists.edits, *edits)) if edits else None
