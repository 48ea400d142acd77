"""Reading and checking a feature table, and writing it sorted and with hashed keys for `pipelines.feature_table.join`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.transforms import PAD
from pipelines import write
from pipelines.batches import column
from pipelines.feature_table import KEY, TIME, hash_keys
from pipelines.normalise import Reasons, clean_times
from pipelines.reading import MOST_BAD_ROWS
from pipelines.settings import FeatureTable
from pipelines.sources import canonical
from pipelines.sources.files import InputFile, is_missing, match
from pipelines.values import as_numbers, as_text

_COMPACT_ROWS = 4_000_000


@dataclasses.dataclass(frozen=True)
class TableRequest:
    """A feature table as asked for: its file or folder, its key columns, and by how much (ms) a value is known later than it says."""

    path: str
    keys: tuple[str, ...]
    lag: int = 0

    def files(self) -> list[str]:
        """Its files in the order of their names. Raises CvrError where there is none."""
        write.check_filesystem(self.path, "table")
        if is_missing(self.path):
            raise CvrError(f"--table={self.path}: no such file or folder")
        inside = [found for suffix in canonical.SUFFIXES for found in match(FileSystems.join(self.path, f"*{suffix}"))]
        found = sorted(set(inside)) or [self.path] * self.path.endswith(canonical.SUFFIXES)
        if not found:
            raise CvrError(f"--table={self.path}: found no file ending in {', '.join(canonical.SUFFIXES)}")
        return found


@dataclasses.dataclass
class Prepared:
    """What became of a table's rows."""

    rows: int = 0
    bad: int = 0
    kept: int = 0


class _Sorted:
    """Collects cleaned rows and keeps those that some impression of [first, end) may look up, sorted by key and time."""

    def __init__(self, first: int, end: int) -> None:
        self._first, self._end = first, end
        self._parts: list[pa.Table] = []
        self._loose = 0

    def add(self, table: pa.Table) -> None:
        """Adds rows; they must come in the order of files and rows."""
        table = table.filter(pa.array(column(table, TIME) < self._end))
        self._parts.append(table)
        self._loose += len(table)
        if self._loose > max(_COMPACT_ROWS, len(self._parts[0])):
            self.compact()

    def compact(self) -> pa.Table:
        """All rows so far as one table: of a key, those from the last one before `first` on; of several at one time the last added."""
        table = pa.concat_tables(self._parts).combine_chunks()
        keys, times = column(table, KEY), column(table, TIME)
        order = np.lexsort((times, keys))
        keys, times = keys[order], times[order]
        again = keys[1:] == keys[:-1]
        passed = again & ((times[1:] == times[:-1]) | (times[1:] < self._first))
        table = table.take(pa.array(order[np.append(~passed, True)])) if len(order) else table
        self._parts, self._loose = [table], 0
        return table


def _values(table: pa.Table, columns: dict[str, set[str]], reasons: Reasons) -> dict[str, pa.Array]:
    """Value columns: text where a feature reads text, else float64; what is no number where one is read is bad."""
    found: dict[str, pa.Array] = {}
    for name, kinds in columns.items():
        values = table.column(name)
        if "n" in kinds:
            numbers, wrong = as_numbers(values, name)
            reasons.mark(wrong, f"{name} is not a number")
            found[name] = pa.array(numbers, mask=np.isnan(numbers))
        if kinds & {"c", "s"}:
            found[name] = as_text(values, name)
    return found


def _clean(table: pa.Table, asked: TableRequest, columns: dict[str, set[str]]) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Good rows as key, time and values, and (row, reason) of the bad ones."""
    reasons = Reasons(len(table))
    keys = hash_keys(table, asked.keys)
    for name in asked.keys:
        reasons.mark(hash_keys(table, (name,)) == PAD, f"{name} is null or empty")
    times = clean_times(table, reasons)
    cleaned = {KEY: pa.array(keys), TIME: pa.array(times), **_values(table, columns, reasons)}
    return pa.table(cleaned).filter(pa.array(reasons.good)), reasons.items()


def _pieces(path: str, names: Sequence[str]) -> Iterator[pa.Table]:
    have = canonical.columns(InputFile(path, "table"))["table"]
    missing = [name for name in names if name not in have]
    if missing:
        raise CvrError(f"{path}: the feature table lacks the column(s) {', '.join(missing)}; it has {', '.join(sorted(have))}")
    for table in canonical.pieces(path, names):
        for name in set(names) - set(table.column_names):
            table = table.append_column(name, pa.nulls(len(table)))
        yield table


def _letters(path: str, start: int, table: pa.Table, bad: list[tuple[int, str]]) -> list[dict[str, Any]]:
    base = {"table": "feature_table", "file": path}
    return [{**base, "row": start + row, "reason": why, "record": table.slice(row, 1).to_pylist()[0]} for row, why in bad]


def prepare(
    asked: TableRequest, columns: dict[str, set[str]], times: tuple[int, int], output: str, bad: str, most_bad: float
) -> tuple[FeatureTable, Prepared]:
    """Writes the rows of a feature table that impressions in [times[0], times[1]) may look up, as one sorted Arrow file.

    Args:
      asked: the table.
      columns: its value columns, and how features read them: {column: {"n" for numbers, "c" or "s" for text}}.
      times: first ms of an impression, and first ms after the last one.
      output: path of the file to write.
      bad: path of the JSONL file for the rows that are set aside.
      most_bad: share of bad rows above which CvrError is raised.
    """
    found = Prepared()
    letters: list[dict[str, Any]] = []
    rows = _Sorted(times[0] - asked.lag, times[1] - asked.lag)
    for path in asked.files():
        start = 0
        for table in _pieces(path, [*asked.keys, TIME, *columns]):
            try:
                cleaned, wrong = _clean(table, asked, columns)
            except CvrError as error:
                raise CvrError(f"{path}: {error}") from error
            letters += _letters(path, start, table, wrong[: max(MOST_BAD_ROWS - len(letters), 0)])
            found.rows, found.bad, start = found.rows + len(table), found.bad + len(wrong), start + len(table)
            rows.add(cleaned)
    if letters:
        write.write_bytes(bad, "".join(json.dumps(letter, default=str) + "\n" for letter in letters).encode())
    _check(asked, found, letters, most_bad)
    table = rows.compact()
    found.kept = len(table)
    write.write_bytes(output, _stream(table))
    return FeatureTable(output, asked.keys, tuple(columns), asked.lag), found


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _check(asked: TableRequest, found: Prepared, letters: list[dict[str, Any]], most_bad: float) -> None:
    if not found.rows:
        raise CvrError(f"--table={asked.path}: the feature table has no row")
    if found.bad > found.rows * most_bad:
        share = f"{found.bad} of {found.rows} rows are bad ({found.bad / found.rows:.2%}, allowed --max_bad_fraction={most_bad:g})"
        first = letters[0]
        example = f"the first: {first['file']}, row {first['row']} (from 0): {first['reason']}; {first['record']}"
        raise CvrError(f"--table={asked.path}: {share}; {example}. Mend the table, or allow more")
