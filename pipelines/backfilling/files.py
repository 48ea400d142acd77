"""The Beam step of a backfill: a published record file -> its file in the new version, and what the manifest says of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.records import Layout, ListColumns, decode, encode
from cvr.schema import FeatureSpec, parse_spec
from pipelines import coverage, statistics, write
from pipelines.backfilling.merge import fill, relayout, values_of, with_values
from pipelines.backfilling.request import Piece
from pipelines.backfilling.work import Workspace, get_json, put_json
from pipelines.counts import merge
from pipelines.record_files import read_bytes, unpack_records

_EXAMPLES = 1_000
"""Search ids of lists without a twin that are written out per file; all are counted."""


@dataclasses.dataclass(frozen=True)
class Rewriting:
    """What every worker knows: where lists come from and go to, the specs of the old lists, the new ones and the asked features."""

    lists: str
    place: Workspace
    old_text: str
    new_text: str
    features_text: str
    features: tuple[str, ...]

    def specs(self) -> tuple[FeatureSpec, FeatureSpec, FeatureSpec]:
        """The old, the new and the features' spec."""
        return _spec(self.old_text), _spec(self.new_text), _spec(self.features_text)


@functools.lru_cache(maxsize=8)
def _spec(text: str) -> FeatureSpec:
    """A spec, parsed once per process."""
    return parse_spec(text)


def tail(path: str) -> str:
    """A record file's path below its data folder: `<split>/<day>/part-<p>.tfrecord.gz`."""
    return path.split("/", 1)[1]


def link(source: str, target: str) -> None:
    """The same file under another path: a hard link where both are on one local file system, else a copy. Repeating it is harmless."""
    folder, _ = FileSystems.split(target)
    if not FileSystems.exists(folder):
        with contextlib.suppress(OSError):  # another worker was faster
            FileSystems.mkdirs(folder)
    if write.is_local(source) and write.is_local(target):
        _link_local(Path(source), Path(target))
    elif not FileSystems.exists(target):
        if FileSystems.get_scheme(source) == FileSystems.get_scheme(target):
            FileSystems.copy([source], [target])
        else:
            write.write_bytes(target, read_bytes(source))


def _link_local(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CvrError(f"{source}: the manifest names this file and it is not there; build the lists again")
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        os.link(source, temporary)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # os.replace leaves it where both are the same file already


class Rewrite(beam.DoFn):
    """(Piece, paths of the asked features' files that may hold its lists) -> a dict of what became of it.

    Its keys: `split`, `file`; where the file was read `statistics` and `coverage` of the asked features; in the range `before` (their
    coverage in the old version), `matched` and `unmatched` lists; or `failure`, a message.
    """

    def __init__(self, asked: Rewriting) -> None:
        self._asked = asked

    def process(self, element: tuple[Piece, Sequence[str]]) -> Iterator[dict[str, Any]]:
        piece, twins = element
        try:
            yield self._linked(piece) if piece.treatment == "link" else self._finished(piece) or self._made(piece, twins)
        except CvrError as error:
            yield {"failure": str(error)}

    def _target(self, piece: Piece) -> str:
        return self._asked.place.data(tail(piece.file.path))

    def _marker(self, piece: Piece) -> str:
        return self._asked.place.path("done", tail(piece.file.path).removesuffix(".tfrecord.gz") + ".json")

    def _source(self, piece: Piece) -> str:
        return FileSystems.join(self._asked.lists, piece.file.path)

    def _linked(self, piece: Piece) -> dict[str, Any]:
        link(self._source(piece), self._target(piece))
        return {"split": piece.split, "file": {**piece.file.model_dump(), "path": self._path(piece)}}

    def _path(self, piece: Piece) -> str:
        return f"{self._asked.place.data_folder}/{tail(piece.file.path)}"

    def _finished(self, piece: Piece) -> dict[str, Any] | None:
        """What an earlier run, killed since, wrote down of this file; None if the file is not there in full."""
        found, target = get_json(self._marker(piece)), self._target(piece)
        if found is None or not FileSystems.exists(target):
            return None
        whole = hashlib.sha256(read_bytes(target)).hexdigest() == found["file"]["sha256"]
        return found if whole else None

    def _made(self, piece: Piece, twins: Sequence[str]) -> dict[str, Any]:
        old, new, _ = self._asked.specs()
        columns = relayout(old, new, _decoded(old, self._source(piece)))
        before = self._described(new, columns)["coverage"]
        left = np.ones(len(columns.lengths), bool)
        if piece.treatment == "merge":
            columns, left = self._filled(new, columns, left, twins)
            self._note(piece, columns, left)
        described = self._described(new, columns)
        if piece.treatment == "measure":
            result = {**self._linked(piece), "statistics": described["statistics"]}
        else:
            size, sha256 = write.write_records(self._target(piece), encode(new, columns))
            file = {**piece.file.model_dump(), "path": self._path(piece), "bytes": size, "sha256": sha256}
            result = {"split": piece.split, "file": file, **described}
        if piece.treatment == "merge":
            result |= {"matched": int((~left).sum()), "unmatched": int(left.sum()), "before": before}
        put_json(self._marker(piece), result)
        return result

    def _filled(
        self, new: FeatureSpec, columns: ListColumns, left: np.ndarray, twins: Sequence[str]
    ) -> tuple[ListColumns, np.ndarray]:
        spec = self._asked.specs()[2]
        for path in twins:
            if left.any():
                columns, left = fill(new, columns, self._asked.features, (spec, _decoded(spec, path)), left)
        return columns, left

    def _note(self, piece: Piece, columns: ListColumns, left: np.ndarray) -> None:
        """Writes down which lists the log no longer holds."""
        if left.any():
            found = [{"search_id": bytes(s).decode(errors="replace")} for s in columns.search_id[left][:_EXAMPLES]]
            path = self._asked.place.data("unmatched", tail(piece.file.path).removesuffix(".tfrecord.gz") + ".jsonl")
            write.write_bytes(path, "".join(json.dumps(line) + "\n" for line in found).encode())

    def _described(self, spec: FeatureSpec, columns: ListColumns) -> dict[str, Any]:
        """Statistics and coverage of the asked features."""
        layout, features = Layout.of(spec), self._asked.specs()[2]
        values = {name: values_of(layout, columns, spec.features[name]) for name in self._asked.features}
        alone, everything = with_values(features, columns, values), np.ones(len(columns.lengths), bool)
        found: dict[str, dict[str, int]] = {}
        for of_day in coverage.of_columns(features, alone, everything).values():
            for name, counts in of_day.items():
                found[name] = merge(found.get(name, {}), counts)
        numbers = statistics.of_columns(Layout.of(features), alone, everything)
        return {"statistics": {name: moments.model_dump() for name, moments in numbers.items()}, "coverage": found}


def _decoded(spec: FeatureSpec, path: str) -> ListColumns:
    try:
        return decode(spec, unpack_records(read_bytes(path), path))
    except ValueError as error:
        if isinstance(error, CvrError):
            raise
        raise CvrError(f"{path}: {error}") from error


def save(results: list[dict[str, Any]], path: str) -> None:
    """Writes the results of all files as JSON, whatever the filesystem."""
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(json.dumps(results).encode())
