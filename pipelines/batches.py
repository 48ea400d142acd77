"""Arrow batches on their way through Beam: serialisation, hashing of columns, and the split into hash partitions.

An element is (partition, Arrow IPC stream compressed with LZ4); the schema's metadata says which table it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from cvr.transforms import EMPTY, hash_strings

_TABLE = b"table"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def to_bytes(name: str, table: pa.Table) -> bytes:
    """A table as one compressed IPC stream that remembers its name; slices are cut to their own rows."""
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({_TABLE: name.encode()})
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> tuple[str, pa.Table]:
    """The name and the table that `to_bytes` wrote."""
    table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    return table.schema.metadata[_TABLE].decode(), table


def concat(pieces: Iterable[bytes]) -> dict[str, pa.Table]:
    """Tables by name, each all its pieces together, in one chunk per column."""
    found: dict[str, list[pa.Table]] = {}
    for piece in pieces:
        name, table = from_bytes(piece)
        found.setdefault(name, []).append(table)
    return {name: pa.concat_tables(tables).combine_chunks() for name, tables in found.items()}


def split(name: str, table: pa.Table, keys: np.ndarray, partitions: int) -> Iterator[tuple[int, bytes]]:
    """Cuts a table into hash partitions: yields (partition, bytes) for each that has rows; rows keep their order."""
    places = (keys.view(np.uint64) % np.uint64(partitions)).astype(np.int64)
    order = np.argsort(places, kind="stable")
    counts = np.bincount(places, minlength=partitions)
    shuffled = table.take(pa.array(order))
    ends = np.cumsum(counts)
    for partition in np.flatnonzero(counts):
        piece = shuffled.slice(int(ends[partition] - counts[partition]), int(counts[partition]))
        yield int(partition), to_bytes(name, piece)


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column without nulls as a NumPy array."""
    return table.column(name).to_numpy()


def encode_dictionary(values: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(codes int64 [R], distinct values object [U]); a null has the code U, one past the last."""
    chunk = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = chunk.dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
    codes = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, distinct


def hash_column(values: pa.ChunkedArray | pa.Array, null: int = EMPTY) -> np.ndarray:
    """Hashes of a string column, int64 [R]; a null becomes `null`. Each distinct value is hashed once."""
    codes, distinct = encode_dictionary(values)
    hashed = hash_strings(distinct).numpy() if len(distinct) else np.zeros(0, np.int64)
    return np.append(hashed, null)[codes]


def mix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A 63-bit hash of pairs of hashes; the order of the two matters."""
    product = first.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    product ^= product >> np.uint64(29)
    product = (product ^ second.view(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
    product ^= product >> np.uint64(32)
    return (product >> np.uint64(1)).view(np.int64)
