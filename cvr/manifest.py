"""The manifest of a folder of list records: what was built, from what, with which counts. It is published last, in one rename."""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic

from cvr.errors import CvrError
from cvr.schema import FeatureSpec, parse_spec

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 2
"""Of the manifest and of the records of `cvr.records`: 1 had ids as varints, a key per categorical."""
SPLITS = ("train", "validation", "test")


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class Moments(_Model):
    """Mergeable statistics of a numerical feature: of x, and of sign(x) * log1p(|x|)."""

    count: int = 0
    missing: int = 0
    unseen: int = 0
    total: float = 0.0
    total_squares: float = 0.0
    log_total: float = 0.0
    log_total_squares: float = 0.0
    minimum: float | None = None
    maximum: float | None = None

    def merge(self, other: Moments) -> Moments:
        """Statistics of both samples together."""
        lows = [v for v in (self.minimum, other.minimum) if v is not None]
        highs = [v for v in (self.maximum, other.maximum) if v is not None]
        names = ("count", "missing", "unseen", "total", "total_squares", "log_total", "log_total_squares")
        summed = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Moments(**summed, minimum=min(lows, default=None), maximum=max(highs, default=None))

    def mean_std(self, logarithmic: bool = False) -> tuple[float, float]:
        """Mean and population standard deviation; (0, 0) without any present value."""
        if not self.count:
            return 0.0, 0.0
        total, squares = (self.log_total, self.log_total_squares) if logarithmic else (self.total, self.total_squares)
        mean = total / self.count
        variance = max(squares / self.count - mean * mean, 0.0)
        noise = 1e-12 * max(mean * mean, 1e-30)
        return mean, math.sqrt(variance) if variance > noise else 0.0


class RecordFile(_Model):
    """One published TFRecord file; `path` is relative to the manifest's folder."""

    path: str
    day: str
    lists: int
    items: int
    bytes: int
    sha256: str


class Coverage(_Model):
    """How many values of a feature are there: `present`, null or empty (`missing`), not built (`unseen`), out of vocabulary (`unknown`).

    A value is one per list for features of level context and one per item otherwise; a sequence is missing where it has no event.
    """

    present: int = 0
    missing: int = 0
    unseen: int = 0
    unknown: int = 0


class Split(_Model):
    """One split's files and what is in them; `coverage` is by day and feature."""

    files: list[RecordFile] = []
    lists: int = 0
    items: int = 0
    max_list_size: int = 0
    first_time: int | None = None
    last_time: int | None = None
    lists_with: dict[str, int] = {}
    labels: dict[str, int] = {}
    statistics: dict[str, Moments] = {}
    coverage: dict[str, dict[str, Coverage]] = {}


class Manifest(_Model):
    """Everything a reader needs to know about a folder of list records.

    `record_format` is `lists` (`cvr.records`) or `elwc`; `changes` tells of each backfill since the build, the
    oldest first; `costs` of the build are the bytes that it shuffled through files.
    """

    format_version: int = FORMAT_VERSION
    record_format: Literal["lists", "elwc"] = "lists"
    dataset: str
    source: str
    created: str
    spec_fingerprint: str
    spec_text: str
    counts: dict[str, Any] = {}
    flags: dict[str, Any] = {}
    changes: list[dict[str, Any]] = []
    costs: dict[str, int] = {}
    splits: dict[str, Split]

    def spec(self) -> FeatureSpec:
        """The feature spec that the records were built with."""
        return parse_spec(self.spec_text, f"spec in {MANIFEST_NAME}")

    def split(self, name: str) -> Split:
        """A split that holds lists. Raises CvrError where it is absent or empty."""
        found = self.splits.get(name)
        if found is None or not found.lists:
            have = {k: v.lists for k, v in self.splits.items()}
            raise CvrError(f"split {name!r} holds no list; this folder has {have}; check the split times given to build_lists")
        return found

    def data_fingerprint(self) -> str:
        """Identifies the records: a hash over the checksums of all files."""
        sums = sorted(f"{name}:{file.sha256}" for name, split in self.splits.items() for file in split.files)
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:16]


def load_manifest(folder: str | Path, formats: Sequence[str] = ("lists",)) -> Manifest:
    """Reads `<folder>/manifest.json`.

    Raises CvrError when nothing was published there, it cannot be read, or its records have a format that the caller does not read.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.is_file():
        raise CvrError(f"no {MANIFEST_NAME} in {folder}; build the lists first: python -m pipelines.build_lists --output={folder} ...")
    return parse_manifest(path.read_text(encoding="utf-8"), str(path), formats)


def parse_manifest(text: str, path: str, formats: Sequence[str] = ("lists",)) -> Manifest:
    """A manifest from its text; `path` is what errors name. Raises CvrError as `load_manifest` does."""
    try:
        manifest = Manifest.model_validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise CvrError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; rebuild the lists with this version") from error
    if manifest.format_version != FORMAT_VERSION:
        raise CvrError(
            f"{path}: these lists have format version {manifest.format_version}, and this version of cvr reads {FORMAT_VERSION}; "
            "build them anew with pipelines.build_lists"
        )
    if manifest.record_format not in formats:
        wanted = " or ".join(formats)
        raise CvrError(
            f"{path}: these records have format {manifest.record_format}, and this command reads {wanted}; "
            f"build them with --format={formats[0]} (docs/interchange.md)"
        )
    return manifest


def publish_json(path: Path, content: Any) -> None:
    """Writes JSON beside `path`, flushes it to disk and renames it into place, so a reader sees all of it or nothing."""
    text = content.model_dump_json(indent=1) if isinstance(content, pydantic.BaseModel) else json.dumps(content, indent=1)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
