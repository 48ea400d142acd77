"""Personalize Expedia Hotel Searches (ICDM 2013) in their original columns, as CSV or Parquet. docs/sources.md states the mapping.

A row is an impression; `click_bool` and `booking_bool` become engagements of that search at the search's time. The log names no customer.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipelines.sources.files import BATCH_ROWS, InputFile, column_names, find_files, opened

REQUIRED = ("srch_id", "date_time", "prop_id", "position", "click_bool", "booking_bool")
EVENTS = {"click": "click_bool", "booking": "booking_bool"}


def find(path: str) -> list[InputFile]:
    """The files of a file or folder."""
    return [InputFile(p, "", i) for i, p in enumerate(find_files(path, (".csv", ".csv.gz", ".parquet")))]


def columns(file: InputFile) -> dict[str, set[str]]:
    """The original columns as impressions, beside the canonical ones."""
    have = column_names(file.path, REQUIRED, "the Expedia searches")
    canonical = {"search_id", "time", "customer_id", "item_id", "position"}
    return {"impressions": canonical | set(have), "engagements": canonical | {"event"}, "items": set()}


def read(file: InputFile, wanted: dict[str, set[str]]) -> Iterator[tuple[str, pa.Table]]:
    """The impressions and engagements of a file, piece by piece."""
    have = columns(file)["impressions"]
    extra = sorted(
        name
        for name in wanted.get("impressions", set()) & have
        if name not in ("search_id", "time", "customer_id", "item_id")
    )
    for batch in _batches(file, sorted({*REQUIRED, *extra})):
        yield from _tables(file, batch, extra)


def _batches(file: InputFile, names: list[str]) -> Iterator[pa.Table]:
    """Pieces with the named columns; CSV values stay text, so that a wrong one becomes a bad row and not a failure."""
    with opened(file.path) as stream:
        if file.path.endswith(".parquet"):
            for batch in pq.ParquetFile(stream).iter_batches(BATCH_ROWS, columns=names):
                yield pa.Table.from_batches([batch])
            return
        options = pa_csv.ConvertOptions(
            include_columns=names,
            column_types={name: pa.string() for name in names},
            null_values=["", "NULL"],
            strings_can_be_null=True,
        )
        for batch in pa_csv.open_csv(
            stream, read_options=pa_csv.ReadOptions(block_size=32 << 20), convert_options=options
        ):
            yield pa.Table.from_batches([batch])


def _times(texts: pa.ChunkedArray) -> pa.Array:
    """`2013-04-04 08:32:15` as ms since the epoch, taken as UTC; null where it is no time."""
    return pc.strptime(texts.cast(pa.string()), "%Y-%m-%d %H:%M:%S", unit="ms", error_is_null=True).cast(pa.int64())


def _tables(file: InputFile, batch: pa.Table, extra: list[str]) -> Iterator[tuple[str, pa.Table]]:
    rows = len(batch)
    base = {
        "search_id": batch.column("srch_id").cast(pa.string()),
        "time": _times(batch.column("date_time")),
        "customer_id": pa.nulls(rows, pa.string()),
        "item_id": batch.column("prop_id").cast(pa.string()),
    }
    yield (
        "impressions",
        pa.table({**base, "position": batch.column("position"), **{name: batch.column(name) for name in extra}}),
    )
    for event, flag in EVENTS.items():
        happened = pc.equal(batch.column(flag).cast(pa.string()), "1").fill_null(False)
        done = pa.table({**base, "event": pa.array([event] * rows, pa.string())})
        yield "engagements", done.filter(happened)
