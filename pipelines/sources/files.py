"""Files of logs through Beam's filesystems: finding, opening and the errors of broken ones."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError

BATCH_ROWS = 262_144
"""Rows per table that a reader yields where it can read a file piece by piece."""


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file of logs; `table` names the one table it holds, or is empty where it gives several; `index` is its place in the order."""

    path: str
    table: str = ""
    index: int = 0


def estimated_rows(files: Sequence[InputFile]) -> int:
    """About how many rows files hold, going by their sizes: enough to choose the number of partitions."""
    found = FileSystems.match([file.path for file in files])
    sizes = [(entry.path, entry.size_in_bytes) for result in found for entry in result.metadata_list]
    return sum(size // (150 if path.endswith((".jsonl", ".csv")) else 15) for path, size in sizes)


def match(pattern: str) -> list[str]:
    """Paths of files that fit a pattern, sorted; [] without any."""
    try:
        return sorted(entry.path for entry in FileSystems.match([pattern])[0].metadata_list)
    except Exception as error:  # Beam raises BeamIOError with the filesystem's own error inside
        raise CvrError(f"cannot look for {pattern}: {error}") from error


def is_missing(path: str) -> bool:
    """Whether a file or folder of this machine is not there; object stores know no folders, so there only a listing can tell."""
    return "://" not in path and not FileSystems.exists(path)


def find_files(path: str, suffixes: tuple[str, ...]) -> list[str]:
    """`path` itself if it is a file, else the files with one of the suffixes in that folder. Raises CvrError where there is none."""
    if is_missing(path):
        raise CvrError(f"--input={path}: no such file or folder")
    inside = [found for suffix in suffixes for found in match(FileSystems.join(path, f"*{suffix}"))]
    found = sorted(set(inside)) or [p for p in match(path) if p.endswith(suffixes)]
    if not found:
        raise CvrError(f"--input={path}: found no file ending in {', '.join(suffixes)}")
    return found


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file's bytes (those inside, if its name ends in .gz); what goes wrong while reading becomes a CvrError naming the file."""
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            if path.endswith(".gz"):
                with gzip.open(file) as inner:
                    yield inner  # type: ignore[misc]
            else:
                yield file
    except EOFError as error:
        raise CvrError(f"{path}: the file is cut off ({error}); fetch or write it again") from error
    except (OSError, zlib.error, pa.ArrowException) as error:
        message = str(error).split("\n")[0]
        raise CvrError(f"{path}: cannot be read, it may be cut off or of another format: {message}") from error


def column_names(path: str, required: Sequence[str], format_name: str) -> list[str]:
    """Columns of a Parquet file, or of a CSV file by its first line. Raises CvrError naming the required ones that it lacks."""
    with opened(path) as stream:
        if path.endswith(".parquet"):
            have = pq.read_schema(stream).names
        else:
            have = stream.readline().decode().strip().replace('"', "").split(",")
    missing = [name for name in required if name not in have]
    if missing:
        raise CvrError(f"{path}: lacks the column(s) {', '.join(missing)} of {format_name}; it has {', '.join(have)}")
    return have
