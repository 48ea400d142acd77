"""Pieces that go through a shuffle as references to a file instead of as bytes.

Beam's local runner holds everything that it shuffles in memory, several times over. Where all workers see one file system, a step can
write its pieces to a file and pass on where they are: then only one partition at a time is in memory. A reference is

    cvr-spill:{"path": ..., "offset": ..., "size": ..., "table": ..., "rows": ...}
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from pipelines.batches import described

_MARK = b"cvr-spill:"


def spilled(pieces: Iterable[tuple[int, bytes]], folder: str | None) -> Iterator[tuple[int, bytes]]:
    """Writes pieces to one new file in a folder and gives references in their place; without a folder, the pieces as they are."""
    if folder is None:
        yield from pieces
        return
    references: list[tuple[int, bytes]] = []
    path = FileSystems.join(folder, f"{uuid.uuid4().hex}.arrow")
    file, offset = None, 0
    try:
        for place, piece in pieces:
            file = file or FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
            table, rows = described(piece)
            about = {"path": path, "offset": offset, "size": len(piece), "table": table, "rows": rows}
            references.append((place, _MARK + json.dumps(about).encode()))
            file.write(piece)
            offset += len(piece)
    finally:
        if file:
            file.close()
    yield from references


def _reference(piece: bytes) -> dict[str, Any] | None:
    return json.loads(piece[len(_MARK) :]) if piece.startswith(_MARK) else None


def load(piece: bytes) -> bytes:
    """The bytes of a piece, whether it is there or a reference. Raises CvrError naming the file where they are not in it."""
    about = _reference(piece)
    if about is None:
        return piece
    path, offset, size = about["path"], about["offset"], about["size"]
    advice = "something else wrote to or removed files of this build, or the disk is full; run it again"
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.seek(offset)
            found = file.read(size)
    except OSError as error:
        raise CvrError(f"{path}: cannot be read: {error}; {advice}") from error
    if len(found) != size:
        raise CvrError(f"{path}: is cut off: expected {size} bytes from {offset} on, found {len(found)}; {advice}")
    return found


def describe(piece: bytes) -> tuple[str, int]:
    """The table's name and number of rows of a piece, without loading it."""
    about = _reference(piece)
    return (about["table"], about["rows"]) if about else described(piece)
