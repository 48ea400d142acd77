"""Columns of any Arrow type as the few types that the pipeline works with; a value that does not fit is marked, never guessed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvr.errors import CvrError
from pipelines.batches import hash_distinct

EARLIEST_MS = 100_000_000_000
"""Times before March 1973 are taken for seconds that were not turned into milliseconds."""
LATEST_MS = 32_503_680_000_000

ABSENT = "\x00absent"
"""Stands for a text value in files that lack the column, which is not the same as a null."""


def absent_mask(name: str) -> str:
    """The name of the bool column that says in which rows a column is absent; without it, it is absent where the file lacks it."""
    return f"{name}\x00absent"


def _flat(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    chunk = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk


def as_text(values: pa.ChunkedArray | pa.Array, name: str) -> pa.Array:
    """A column as large_string: whole floats without `.0`, true and false in lower case, lists joined by `|`.

    Raises CvrError for types that have no plain text, such as structs.
    """
    flat = _flat(values)
    kind = flat.type
    if pa.types.is_floating(kind):
        numbers = flat.cast(pa.float64())
        whole = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), 2.0**53))
        integers = pc.if_else(whole, numbers, None).cast(pa.int64()).cast(pa.large_string())
        return pc.if_else(pc.is_nan(numbers), None, pc.coalesce(integers, numbers.cast(pa.large_string())))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        texts = as_text(flat.flatten(), name).fill_null("")
        offsets = pc.subtract(flat.offsets, flat.offsets[0])
        lists = pa.LargeListArray.from_arrays(
            offsets.cast(pa.int64()), texts, mask=flat.is_null() if flat.null_count else None
        )
        return pc.binary_join(lists, pa.scalar("|", pa.large_string()))
    try:
        return flat.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise CvrError(
            f"column {name!r} has type {kind}, which has no plain text; expected text, numbers, times or lists of them"
        ) from error


def as_coded(values: pa.ChunkedArray | pa.Array, name: str) -> tuple[np.ndarray, pa.Array]:
    """A column's text as (codes int64 [R], distinct values large_string [U]); a null has the code U. Each value is made text once.

    Raises CvrError for types that have no plain text, such as structs.
    """
    chunk = values.unify_dictionaries().combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_nested(chunk.type):
        chunk = as_text(chunk, name)
    if not pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_encode()
    distinct = as_text(chunk.dictionary, name)
    indices = chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    known = distinct.is_valid().to_numpy(zero_copy_only=False)
    number = np.append(np.where(known, np.cumsum(known) - 1, known.sum()), known.sum())
    return number[indices], distinct.drop_null()


def hash_texts(values: pa.ChunkedArray | pa.Array, name: str, null: int) -> np.ndarray:
    """Hashes of a column's text, int64 [R]; a null becomes `null` and the empty text EMPTY. Each distinct value is hashed once."""
    codes, distinct = as_coded(values, name)
    return hash_distinct(distinct, null)[codes]


def _parsed(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Text as float64 (NaN for null or empty) and which values are no numbers."""
    trimmed = pc.utf8_trim_whitespace(texts)
    present = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    try:
        return present.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False), np.zeros(len(texts), bool)
    except pa.ArrowInvalid:
        pass
    numbers, wrong = np.full(len(texts), np.nan), np.zeros(len(texts), bool)
    for row, text in enumerate(present.to_pylist()):
        try:
            numbers[row] = np.nan if text is None else float(text)
        except ValueError:
            wrong[row] = True
    return numbers, wrong


def as_numbers(values: pa.ChunkedArray | pa.Array, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64 with NaN for null, empty and infinite values, and a mask of values that are no numbers.

    Raises CvrError for types that hold no numbers, such as lists.
    """
    flat = _flat(values)
    kind = flat.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        numbers, wrong = _parsed(flat)
    elif _is_time(kind):
        numbers, wrong = as_integers(flat, name)[0].astype(np.float64), np.zeros(len(flat), bool)
        numbers[flat.is_null().to_numpy(zero_copy_only=False)] = np.nan
    elif (
        pa.types.is_null(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        numbers = flat.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False).copy()
        wrong = np.zeros(len(flat), bool)
    else:
        raise CvrError(f"column {name!r} has type {kind}; a numerical feature needs numbers")
    return np.where(np.isfinite(numbers), numbers, np.nan), wrong


def _is_time(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind) or types.is_duration(kind)


def _milliseconds(times: pa.Array) -> pa.Array:
    """Times of an Arrow type as int64: ms since the epoch, since midnight, or of a duration."""
    if pa.types.is_time(times.type):
        return times.cast(pa.time32("ms"), safe=False).cast(pa.int32()).cast(pa.int64())
    kind = pa.duration("ms") if pa.types.is_duration(times.type) else pa.timestamp("ms")
    return times.cast(kind, safe=False).cast(pa.int64())


def as_integers(values: pa.ChunkedArray | pa.Array, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column as (int64 with 0 where there is none, mask of nulls, mask of values that are no whole numbers).

    Arrow timestamps and dates become ms since the epoch, those without a time zone taken as UTC; times of day and durations become ms.
    """
    flat = _flat(values)
    null = flat.is_null().to_numpy(zero_copy_only=False)
    if _is_time(flat.type):
        flat = _milliseconds(flat)
    if pa.types.is_integer(flat.type):
        return flat.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), null, np.zeros(len(flat), bool)
    numbers, wrong = as_numbers(flat, name)
    missing = np.isnan(numbers) & ~wrong
    wrong = wrong | (
        ~missing
        & ((np.floor(np.nan_to_num(numbers)) != np.nan_to_num(numbers)) | (np.abs(np.nan_to_num(numbers)) > 2**53))
    )
    return np.where(missing | wrong, 0, np.nan_to_num(numbers)).astype(np.int64), missing, wrong
