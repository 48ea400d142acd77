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
    """The bytes of a piece, whether it is there or a reference."""
    about = _reference(piece)
    if about is None:
        return piece
    with FileSystems.open(about["path"], compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.seek(about["offset"])
        return file.read(about["size"])


def describe(piece: bytes) -> tuple[str, int]:
    """The table's name and number of rows of a piece, without loading it."""
    about = _reference(piece)
    return (about["table"], about["rows"]) if about else described(piece)
