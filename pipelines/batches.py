"""Arrow batches on their way through Beam: serialisation, hashing of columns, and the split into hash partitions.

An element is (partition, Arrow IPC stream compressed with LZ4); the schema's metadata says which table it belongs to.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from cvr.transforms import EMPTY, hash_strings

_TABLE, _ROWS = b"table", b"rows"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def to_bytes(name: str, table: pa.Table) -> bytes:
    """A table as one compressed IPC stream that remembers its name; of slices and dictionaries only what is used."""
    sink = pa.BufferOutputStream()
    table = _compact(table).replace_schema_metadata({_TABLE: name.encode(), _ROWS: str(len(table)).encode()})
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes, columns: Sequence[str] | None = None) -> tuple[str, pa.Table]:
    """The name and the table that `to_bytes` wrote, or some of its columns, without unpacking the others."""
    stream = pa.ipc.open_stream(pa.py_buffer(data))
    if columns is not None:
        chosen = sorted({stream.schema.get_field_index(name) for name in columns if name in stream.schema.names})
        stream = pa.ipc.open_stream(pa.py_buffer(data), options=pa.ipc.IpcReadOptions(included_fields=chosen))
    return stream.schema.metadata[_TABLE].decode(), stream.read_all()


def described(data: bytes) -> tuple[str, int]:
    """The name and the number of rows of a table in bytes, without unpacking it."""
    metadata = pa.ipc.open_stream(pa.py_buffer(data)).schema.metadata
    return metadata[_TABLE].decode(), int(metadata[_ROWS])


def concat(pieces: Iterable[bytes]) -> dict[str, pa.Table]:
    """Tables by name, each all its pieces together, in one chunk per column."""
    found: dict[str, list[pa.Table]] = {}
    for piece in pieces:
        name, table = from_bytes(piece)
        found.setdefault(name, []).append(table)
    return {name: one_chunk(pa.concat_tables(tables)) for name, tables in found.items()}


def one_chunk(table: pa.Table) -> pa.Table:
    """A table with one chunk, and one dictionary, per column."""
    return table.unify_dictionaries().combine_chunks()


def _compact(table: pa.Table) -> pa.Table:
    """A table whose dictionary columns hold the values that occur, in the order of the dictionary, and no others."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            values = one_chunk(table.select([place])).column(0).chunk(0) if len(table) else pa.array([], field.type)
            table = table.set_column(place, field, _used(values))
    return table


def _used(values: pa.DictionaryArray) -> pa.DictionaryArray:
    codes = values.indices.fill_null(0).to_numpy(zero_copy_only=False)
    used = np.zeros(len(values.dictionary), bool)
    used[codes[values.is_valid().to_numpy(zero_copy_only=False)] if values.null_count else codes] = True
    if used.all():
        return values
    codes = (np.cumsum(used) - 1).astype(np.int32)[codes]
    mask = values.is_null() if values.null_count else None
    indices = pa.array(codes, mask=mask.to_numpy(zero_copy_only=False) if mask is not None else None)
    return pa.DictionaryArray.from_arrays(indices, values.dictionary.take(pa.array(np.flatnonzero(used))))


def split(name: str, table: pa.Table, keys: np.ndarray, partitions: int) -> Iterator[tuple[int, bytes]]:
    """Cuts a table into hash partitions: yields (partition, bytes) for each that has rows; rows keep their order."""
    yield from split_at(name, table, (keys.view(np.uint64) % np.uint64(partitions)).astype(np.int64))


def split_at(name: str, table: pa.Table, places: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Cuts a table by the place of each row: yields (place, bytes) for each that has rows; rows keep their order."""
    codes, found = pd.factorize(places, sort=True)
    order = np.argsort(codes.astype(np.uint16 if len(found) < 2**16 else np.int64), kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(found)))
    shuffled = table.take(pa.array(order))
    for place, begin, end in zip(found, np.concatenate([[0], ends]), ends, strict=False):
        yield int(place), to_bytes(name, shuffled.slice(int(begin), int(end - begin)))


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column without nulls as a NumPy array; integers as int64."""
    values = table.column(name).to_numpy()
    return values.astype(np.int64, copy=False) if values.dtype.kind == "i" else values


def coded(table: pa.Table, name: str) -> tuple[np.ndarray, pa.Array]:
    """A carried text column as (codes int64 [R], distinct values [U]); a null has the code U."""
    values = table.column(name)
    chunk = values.chunk(0) if values.num_chunks == 1 else values.unify_dictionaries().combine_chunks()
    return chunk.indices.fill_null(len(chunk.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64), chunk.dictionary


_recent: collections.deque[tuple[pa.Array, np.ndarray]] = collections.deque(maxlen=8)
"""Texts that were hashed last: batches of one file often have the same dictionaries."""


def hash_distinct(distinct: pa.Array, null: int = EMPTY) -> np.ndarray:
    """Hashes of distinct texts and, last, what a null becomes; int64 [U + 1]."""
    for texts, hashed in list(_recent):
        if len(texts) == len(distinct) and texts.equals(distinct):
            return np.append(hashed, null)
    strings = distinct.to_numpy(zero_copy_only=False)
    hashed = hash_strings(strings).numpy() if len(strings) else np.zeros(0, np.int64)
    _recent.append((distinct, hashed))
    return np.append(hashed, null)


def mix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A 63-bit hash of pairs of hashes; the order of the two matters."""
    product = first.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    product ^= product >> np.uint64(29)
    product = (product ^ second.view(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
    product ^= product >> np.uint64(32)
    return (product >> np.uint64(1)).view(np.int64)
