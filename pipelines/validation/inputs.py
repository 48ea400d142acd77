"""What a validation reads: the manifests of published lists, and one element per record file that they name."""

from __future__ import annotations

import dataclasses
import functools
import re

from cvr.manifest import MANIFEST_NAME, Manifest, RecordFile
from cvr.schema import FeatureSpec, parse_spec
from pipelines.backfilling.request import load_lists
from pipelines.settings import DAY_MS, format_time, parse_time
from pipelines.write import check_filesystem

LISTS, BASELINE = "lists", "baseline"
_NUMBER = re.compile(r"part-(\d+)[^/]*$")
_STARTS = {"train": "start", "validation": "validation_from", "test": "test_from"}


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder of published lists; `role` is `lists` or `baseline`."""

    role: str
    folder: str
    spec_text: str
    times: dict[str, tuple[int | None, int | None]]
    """Per split its first time and the first one after it, ms or None."""

    @property
    def spec(self) -> FeatureSpec:
        """The spec of its records."""
        return spec_of(self.spec_text)


@dataclasses.dataclass(frozen=True)
class Element:
    """One record file: its split, its place among all files of its folder, and what the manifest says of it."""

    role: str
    split: str
    number: int
    path: str
    day: str
    lists: int
    items: int
    bytes: int
    sha256: str
    scored: bool
    """Whether its lists take part in the second pass of the leak detector."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """(role, split, day, half): partitions of even and odd numbers are two samples of customers."""
        number = _NUMBER.search(self.path)
        return self.role, self.split, self.day, int(number.group(1)) % 2 if number else 0


@functools.lru_cache(maxsize=4)
def spec_of(text: str) -> FeatureSpec:
    """A spec, parsed once per process."""
    return parse_spec(text, f"spec in {MANIFEST_NAME}")


def load(folder: str, flag: str) -> Manifest:
    """The manifest of a folder on any of Beam's filesystems.

    Raises CvrError where there is none, or where its records are in the format elwc, which holds too little to be validated.
    """
    check_filesystem(folder, flag)
    return load_lists(folder)


def source_of(role: str, folder: str, manifest: Manifest) -> Source:
    """A folder's source: its spec, and the time ranges of its splits from the flags it was built with."""
    starts = {name: _flag_time(manifest, flag) for name, flag in _STARTS.items()}
    names = [name for name in starts if name in manifest.splits]
    ends = [starts[name] for name in names[1:]] + [_flag_time(manifest, "end")]
    return Source(
        role, folder, manifest.spec_text, {name: (starts[name], end) for name, end in zip(names, ends, strict=True)}
    )


def _flag_time(manifest: Manifest, flag: str) -> int | None:
    text = manifest.flags.get(flag)
    return None if text == format_time(None) else parse_time(text, flag)


def elements_of(role: str, manifest: Manifest, scored_lists: int) -> list[Element]:
    """One element per file. Of each split, files spread over its days are scored, until they hold `scored_lists` lists."""
    found: list[Element] = []
    for split, content in manifest.splits.items():
        chosen = _spread(content.files, scored_lists)
        for place, file in enumerate(content.files):
            found.append(Element(role, split, len(found), **file.model_dump(), scored=place in chosen))
    return found


def _spread(files: list[RecordFile], lists: int) -> set[int]:
    """Places of evenly spread files that hold about `lists` lists; all where there are no more."""
    total = sum(file.lists for file in files)
    step = max(1.0, total / max(lists, 1))
    return {int(place * step) for place in range(len(files)) if int(place * step) < len(files)}


def day_range(day: str) -> tuple[int, int]:
    """First millisecond of a day (UTC) and of the next one."""
    first = parse_time(day, "day")
    assert first is not None
    return first, first + DAY_MS
