"""The canonical log layout of docs/log_format.md: folders impressions/, engagements/, items/, candidates/ of Parquet or JSONL files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from pipelines.sources.files import BATCH_ROWS, InputFile, is_missing, match, opened

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
COLUMNS = {
    "impressions": ("search_id", "time", "customer_id", "item_id", "position", "domain"),
    "engagements": ("time", "customer_id", "item_id", "event", "search_id", "domain", "event_id"),
    "items": ("item_id",),
}
CANDIDATES = "candidates"
OPTIONAL = {CANDIDATES: ("search_id", "customer_id", "item_id")}
"""The table that only those read who ask for it, and its columns."""
_BLOCK = 32 * 1024 * 1024


def find(path: str) -> list[InputFile]:
    """All files of the three folders, in the order of their names. Raises CvrError where impressions or engagements are missing."""
    if is_missing(path):
        raise CvrError(f"--input={path}: no such folder")
    files: list[InputFile] = []
    for table in COLUMNS:
        paths = _paths(path, table)
        if not paths and table != "items":
            raise CvrError(
                f"--input={path}: no {table}/*.parquet or {table}/*.jsonl in it; a canonical log has the folders impressions, engagements "
                "and, if items have attributes, items (docs/log_format.md)"
            )
        files += [InputFile(p, table, len(files) + i) for i, p in enumerate(paths)]
    return files


def candidates(path: str, first: int) -> list[InputFile]:
    """The files of un-exposed candidates, numbered from `first` on; [] without any."""
    return [InputFile(p, CANDIDATES, first + i) for i, p in enumerate(_paths(path, CANDIDATES))]


def _paths(path: str, table: str) -> list[str]:
    return sorted(p for suffix in SUFFIXES for p in match(FileSystems.join(path, table, f"*{suffix}")))


def columns(file: InputFile) -> dict[str, set[str]]:
    """The columns of a file; of a JSONL file those of its first million bytes."""
    with opened(file.path) as stream:
        if file.path.endswith(".parquet"):
            return {file.table: set(pq.read_schema(stream).names)}
        names: set[str] = set()
        for line in stream.readlines(1_000_000):
            names |= set(_parsed(line) or {})
        return {file.table: names}


def read(file: InputFile, wanted: dict[str, set[str]]) -> Iterator[tuple[str, pa.Table]]:
    """A file in pieces of bounded size, with the canonical columns and the wanted ones."""
    known = (COLUMNS | OPTIONAL)[file.table]
    names = [*known, *sorted(wanted.get(file.table, set()) - set(known))]
    for table in pieces(file.path, names):
        yield file.table, table


def pieces(path: str, names: Sequence[str]) -> Iterator[pa.Table]:
    """A Parquet or JSONL file in pieces of bounded size, with those of the named columns that it has."""
    with opened(path) as stream:
        if path.endswith(".parquet"):
            plain = pq.ParquetFile(stream)
            chosen = [name for name in names if name in plain.schema_arrow.names]
            texts = [name for name in chosen if pa.types.is_string(plain.schema_arrow.field(name).type)]
            parquet = pq.ParquetFile(stream, metadata=plain.metadata, read_dictionary=texts)
            for batch in parquet.iter_batches(BATCH_ROWS, columns=chosen):
                yield pa.Table.from_batches([batch])
        else:
            for block in _blocks(stream):
                table = _json_table(block)
                yield table.select([name for name in names if name in table.column_names])


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about _BLOCK bytes at a time."""
    while lines := stream.readlines(_BLOCK):
        yield b"".join(lines)


def _json_table(block: bytes) -> pa.Table:
    """JSON lines as a table; where their types disagree, every value that is not of its column's usual type becomes text."""
    try:
        options = pa_json.ReadOptions(block_size=2 * len(block) + 1024)
        return pa_json.read_json(io.BytesIO(block), read_options=options)
    except pa.ArrowInvalid:
        rows = [_parsed(line) for line in block.splitlines() if line.strip()]
    names = {name for row in rows if row for name in row}
    return pa.table({name: _column([(row or {}).get(name) for row in rows]) for name in sorted(names)})


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's object; None for one that is no JSON object, which later counts as a row without any value."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.large_string())
