"""Reading back the record files of published lists, through Beam's filesystems; every error names file and record."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import google_crc32c
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from isal import igzip, isal_zlib

from cvr.errors import CvrError
from pipelines.write import mask_crc


def read_records(path: str) -> list[bytes]:
    """All records of a gzipped TFRecord file. Raises CvrError naming the file, and the record where framing or checksum is wrong."""
    return unpack_records(read_bytes(path), path)


def read_bytes(path: str) -> bytes:
    """A file as it is, whatever its name says about compression. Raises CvrError naming it where it cannot be read."""
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read()
    except OSError as error:
        raise CvrError(f"{path}: cannot be read ({error}); it may be missing: build the lists again") from error


def unpack_records(data: bytes, path: str) -> list[bytes]:
    """All records of the bytes of a gzipped TFRecord file; `path` and the errors are those of `read_records`."""
    try:
        return list(_records(igzip.decompress(data), path))
    except (OSError, EOFError, isal_zlib.error) as error:  # type: ignore[misc]
        raise CvrError(f"{path}: cannot be read ({error}); it may be cut off: build the lists again") from error


def _records(data: bytes, path: str) -> Iterator[bytes]:
    view, place, number = memoryview(data), 0, 0
    while place < len(data):
        head = view[place : place + 12]
        if len(head) < 12 or not _matches(head[:8], head[8:]):
            raise CvrError(f"{path}: record {number} (from 0) has a damaged length; build the lists again")
        (length,) = struct.unpack("<Q", head[:8])
        record = view[place + 12 : place + 12 + length]
        if not _matches(record, view[place + 12 + length : place + 16 + length]):
            raise CvrError(f"{path}: record {number} (from 0) is damaged or cut off; build the lists again")
        yield bytes(record)
        place += 16 + length
        number += 1


def _matches(data: memoryview, crc: memoryview) -> bool:
    return len(crc) == 4 and struct.unpack("<I", crc)[0] == mask_crc(google_crc32c.value(bytes(data)))
