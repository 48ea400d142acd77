"""Writing a log folder: tables as Parquet or JSON lines, everything in a folder beside that is renamed at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cvr.errors import CvrError

FORMATS = ("parquet", "jsonl")
STRING_COLUMNS = frozenset(
    {"search_id", "customer_id", "item_id", "event", "event_id", "query", "domain", "session_id", "query_category"}
    | {"customer_segment", "title", "category", "brand", "true_search_id"}
)


@contextlib.contextmanager
def finished_folder(output: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `output` and renames it to `output` when the block ends without an exception.

    What a killed run left behind is removed first. Raises CvrError when `output` exists and is not an empty folder.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CvrError(f"--output={output} already holds something; delete it or give another folder")
    temporary = output.parent / f".{output.name}.unfinished"
    _remove(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if output.exists():
            output.rmdir()
        os.replace(temporary, output)
    finally:
        _remove(temporary)


def write_table(frame: pd.DataFrame, folder: Path, name: str, file_format: str) -> None:
    """Writes `folder/name.parquet` or `.jsonl` (UTF-8, missing values as null)."""
    folder.mkdir(parents=True, exist_ok=True)
    if file_format == "jsonl":
        text = frame.to_json(orient="records", lines=True, force_ascii=False, double_precision=10)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        return
    fields = [pa.field(c, pa.string() if c in STRING_COLUMNS else pa.from_numpy_dtype(frame[c].dtype)) for c in frame]
    table = pa.Table.from_pandas(frame, schema=pa.schema(fields), preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def write_json(content: object, path: Path) -> None:
    """Writes indented JSON with sorted keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
