"""What a backfill would do and about what it would cost: `--dry_run`. Costs are CPU seconds measured on a sample, on this machine.

* Log: of each table some files in the middle of the log are read whole; their first rows go through a build of the asked features, a
  second build of fewer rows takes the fixed cost off, and both rates are scaled by the bytes of the log.
* Feature table: its file of middle size is prepared, scaled by the bytes of all.
* Merge: the published file of middle size is decoded, merged with itself and encoded, scaled by the bytes of all that are treated so.

What runs only once in a process, such as TensorFlow's start, is done before the clocks start.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from apache_beam.io.filesystems import FileSystems
from isal import igzip

from cvr.records import decode, encode
from pipelines import checks, job, write
from pipelines.backfilling.merge import fill, relayout
from pipelines.backfilling.request import Piece, Plan, Request, build_settings, plan
from pipelines.backfilling.table import TableRequest, prepare
from pipelines.backfilling.work import file_sizes
from pipelines.reading import wanted_columns
from pipelines.record_files import read_records
from pipelines.settings import FeatureTable, Settings, plan_of
from pipelines.sources import source
from pipelines.sources.files import InputFile

_SAMPLE_ROWS, _FEW_ROWS = 200_000, 2_000


def _middle(sizes: Sequence[int]) -> int:
    """The index of the middle one by size."""
    return int(np.argsort(sizes, kind="stable")[len(sizes) // 2])


@dataclasses.dataclass
class Sample:
    """Rows of some files per table, and what they stand for: `rows` of the whole log, `seconds` to read it."""

    tables: dict[str, list[pa.Table]]
    rows: float = 0.0
    seconds: float = 0.0
    files: list[str] = dataclasses.field(default_factory=list)

    def read(self, pieces: Iterator[tuple[str, pa.Table]]) -> int:
        """Takes the first rows of a file's tables; gives the number of all of its rows."""
        rows = 0
        for name, table in pieces:
            kept = self.tables.setdefault(name, [])
            rows += len(table)
            if sum(map(len, kept)) < _SAMPLE_ROWS:
                kept.append(table)
        return rows

    def write(self, folder: Path, most: int) -> int:
        """Writes at most so many rows per table as a canonical log; gives the number of rows."""
        rows = 0
        for name, pieces in self.tables.items():
            table = pa.concat_tables(pieces, promote_options="default").slice(0, most)
            (folder / name).mkdir(parents=True)
            pq.write_table(table, folder / name / "part.parquet")
            rows += len(table)
        return rows


def _read_sample(settings: Settings) -> Sample:
    """Reads files of each table of the log whole, from the middle outwards, until there are enough rows; keeps the first rows."""
    reader, sample = source(settings.source), Sample({})
    groups: dict[str, list[InputFile]] = {}
    for file in reader.find(settings.input):
        groups.setdefault(file.table, []).append(file)
    for files in groups.values():
        sizes, middle = file_sizes([file.path for file in files]), len(files) // 2
        order, rows, read = sorted(range(len(files)), key=lambda place: abs(place - middle)), 0, 0
        started = time.process_time()
        for place in order:
            if rows < _SAMPLE_ROWS:
                rows, read = rows + sample.read(reader.read(files[place], wanted_columns(settings))), read + sizes[place]
                sample.files.append(files[place].path)
        scale = sum(sizes) / max(read, 1)
        sample.seconds += (time.process_time() - started) * scale
        sample.rows += rows * scale
    return sample


def _build_seconds(settings: Settings, log: Path, output: Path) -> float:
    """CPU seconds of a build of the asked features from a sample."""
    content = yaml.safe_load(settings.spec_text)
    for feature in content["features"].values():
        feature["introduced_on"] = "1973-01-01"  # a sample may lack a column or an event that the log has
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    asked = dataclasses.replace(
        settings, source="canonical", input=str(log), output=str(output), spec_text=text, start=None, end=None, max_bad_fraction=1.0
    )
    started = time.process_time()
    job.build(asked)
    return time.process_time() - started


def log_seconds(settings: Settings, folder: Path) -> tuple[float, Sample, int]:
    """CPU seconds of the asked features from the whole log; the sample, and its rows that were built."""
    sample = _read_sample(settings)
    few = sample.write(folder / "few", _FEW_ROWS)
    many = sample.write(folder / "many", _SAMPLE_ROWS)
    _build_seconds(settings, folder / "few", folder / "warm-up")
    fixed = _build_seconds(settings, folder / "few", folder / "few-lists")
    measured = _build_seconds(settings, folder / "many", folder / "many-lists") if many > few else fixed
    per_row = max(measured - fixed, 0.0) / (many - few) if many > few else fixed / max(few, 1)
    return sample.seconds + fixed + per_row * max(sample.rows - few, 0.0), sample, many


def _prepare_sample(asked: Plan, settings: Settings, folder: Path) -> tuple[FeatureTable, float, str]:
    """The table's middle file, prepared, and the CPU seconds of all files."""
    table = asked.request.table
    assert table is not None and settings.start is not None and settings.end is not None
    paths = table.files()
    sizes = file_sizes(paths)
    chosen = _middle(sizes)
    one = TableRequest(paths[chosen], table.keys, table.lag)
    columns = plan_of(settings).columns("impression")
    places = ((settings.start, settings.end), str(folder / "table.arrow"), str(folder / "bad.jsonl"))
    prepare(one, columns, *places, asked.request.max_bad_fraction)
    started = time.process_time()
    prepared, _ = prepare(one, columns, *places, asked.request.max_bad_fraction)
    return prepared, (time.process_time() - started) * sum(sizes) / max(sizes[chosen], 1), paths[chosen]


@dataclasses.dataclass(frozen=True)
class MergeRate:
    """CPU seconds per byte of published files, measured on `path`."""

    path: str
    decode: float
    fill: float
    encode: float

    def seconds(self, pieces: Sequence[Piece]) -> float:
        """CPU seconds for files, each with its treatment."""
        per_byte = {
            "merge": 2 * self.decode + self.fill + self.encode,
            "encode": self.decode + self.encode,
            "measure": self.decode,
            "link": 0.0,
        }
        return sum(per_byte[piece.treatment] * piece.file.bytes for piece in pieces)


def merge_rate(asked: Plan) -> MergeRate:
    """Measures the steps of a merge on the published file of middle size; nothing is written."""
    inside = asked.chosen("merge")
    piece = inside[_middle([piece.file.bytes for piece in inside])]
    path = FileSystems.join(asked.request.lists, piece.file.path)
    old, new = asked.manifest.spec(), asked.spec
    records = read_records(path)
    decode(old, records[:1])
    clock = [time.process_time()]
    columns = relayout(old, new, decode(old, read_records(path)))
    clock.append(time.process_time())
    columns, _ = fill(new, columns, asked.request.features, (new, columns), np.ones(len(columns.lengths), bool))
    clock.append(time.process_time())
    igzip.compress(write.frame(encode(new, columns)), compresslevel=1)
    clock.append(time.process_time())
    return MergeRate(path, *(float(seconds) / max(piece.file.bytes, 1) for seconds in np.diff(clock)))


def _size(pieces: Sequence[Piece]) -> str:
    lists, items, total = (sum(getattr(piece.file, name) for piece in pieces) for name in ("lists", "items", "bytes"))
    return f"{len(pieces):,} partitions (files), {lists:,} lists, {items:,} items, {total / 1e6:,.1f} MB"


def estimate(request: Request) -> str:
    """Describes a backfill and its cost; the output is not touched. Raises CvrError for a request that does not fit."""
    asked = plan(request)
    write.check_output(request.output)
    request = asked.request
    inside = asked.chosen("merge")
    days = sorted({piece.file.day for piece in inside})
    lines = [
        f"features {', '.join(request.features)} of {request.lists} (data fingerprint {asked.manifest.data_fingerprint()})",
        f"range: {len(days)} days with lists, {days[0]} to {days[-1]}; {_size(inside)}",
    ]
    told = {
        "encode": "are written anew, as the new spec has another layout of stored features",
        "measure": "are linked (copied on other filesystems), and read for their statistics",
        "link": "are linked (copied on other filesystems)",
    }
    lines += [f"outside: {_size(found)} {text}" for kind, text in told.items() if (found := asked.chosen(kind))]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        lines += _costs(asked, Path(folder))
    return "\n".join([*lines, "nothing was written to the output"])


def _costs(asked: Plan, folder: Path) -> list[str]:
    settings, table_seconds, lines = build_settings(asked, str(folder / "lists")), 0.0, []
    files = source(settings.source).find(settings.input)
    if asked.request.table:
        prepared, table_seconds, path = _prepare_sample(asked, settings, folder)
        settings = dataclasses.replace(settings, feature_table=prepared)
        lines.append(f"table: about {table_seconds:,.1f} s of CPU, by preparing {path}")
    checks.check_columns(settings, files)
    seconds, sample, rows = log_seconds(settings, folder)
    lines.append(
        f"log: {len(files):,} files, about {sample.rows:,.0f} rows; reading them and making the features: about {seconds:,.1f} s of CPU, "
        f"by reading {len(sample.files)} of them, from {sample.files[0]} on, and building lists of {rows:,} of their rows"
    )
    rate = merge_rate(asked)
    merging = rate.seconds(asked.pieces)
    lines.append(f"merge: about {merging:,.1f} s of CPU, by decoding, merging and encoding {rate.path}")
    steps = len(asked.steps())
    if steps > 1:
        lines.append(f"steps: {steps}, each of which reads the table and the log, which counts {steps} times below")
    total = steps * (seconds + table_seconds) + merging
    lines.append(f"in all about {total:,.1f} s of CPU of this machine, which workers share; start-up of workers comes on top")
    return lines
