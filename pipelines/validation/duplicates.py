"""Searches that stand in more than one record, and lists of equal content under different searches, by a shuffle of their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from cvr.records import Layout, ListColumns
from pipelines.validation.merging import MAX_EXAMPLES, Found, Partial
from pipelines.validation.sketches import mix64

_KEY = np.dtype([("high", "u8"), ("low", "u8"), ("search", "u8"), ("file", "u4"), ("record", "u4")])
SEARCH, CONTENT = 0, 1

Piece = tuple[tuple[int, int], bytes]
"""((kind, bucket), digests of lists with where they stand)."""


def digests(layout: Layout, columns: ListColumns, number: int, buckets: int) -> Iterator[Piece]:
    """Digests of the lists of file `number`, one piece per kind and bucket that has any."""
    searches = np.frombuffer(
        b"".join(hashlib.blake2b(s, digest_size=16).digest() for s in columns.search_id), "<u8"
    ).reshape(-1, 2)
    for kind, key in (
        (SEARCH, searches),
        (CONTENT, np.stack([_content(layout, columns, seed) for seed in (1, 2)], axis=1)),
    ):
        rows = np.empty(len(key), _KEY)
        rows["high"], rows["low"], rows["search"] = key[:, 0], key[:, 1], searches[:, 0]
        rows["file"], rows["record"] = number, np.arange(len(key))
        bucket = key[:, 0] % np.uint64(buckets)
        for place in np.unique(bucket):
            yield (kind, int(place)), rows[bucket == place].tobytes()


def _content(layout: Layout, columns: ListColumns, seed: int) -> np.ndarray:
    """64-bit digests of time, items, positions, labels, delays and stored single values of each list. uint64 [L]."""
    total = mix64(columns.time + seed)
    per_list = [
        columns.lengths,
        *columns.context_num.view(np.int32).T,
        *(columns.cat[name] for name in layout.context_cat),
    ]
    per_item = [columns.item, columns.position, *columns.labels.T, *columns.delay.T, *columns.item_num.view(np.int32).T]
    per_item += [columns.cat[name] for name in layout.item_cat]
    for values in per_list:
        total = mix64(total + values.astype(np.int64).view(np.uint64))
    items = mix64(np.full(len(columns.item), seed))
    for values in per_item:
        items = mix64(items + values.astype(np.int64).view(np.uint64))
    sums = np.append(np.uint64(0), np.cumsum(items))
    ends = np.cumsum(columns.lengths)
    return mix64(total + sums[ends] - sums[ends - columns.lengths])


def find(key: tuple[int, int], pieces: Iterable[bytes], places: list[tuple[str, str]]) -> Partial:
    """What one bucket holds more than once: {"duplicates": {name: Found}}; `places` are (split, path) of the files.

    `searches`: records whose search stands in an earlier record too; `across_splits`: searches in several splits; `content`: lists of a
    content that another search has too.
    """
    rows = np.frombuffer(b"".join(pieces), _KEY)
    rows = rows[np.lexsort((rows["record"], rows["file"], rows["low"], rows["high"]))]
    same = (rows["high"][1:] == rows["high"][:-1]) & (rows["low"][1:] == rows["low"][:-1])
    before, after = rows[:-1][same], rows[1:][same]
    if key[0] == CONTENT:
        different = before["search"] != after["search"]
        return _named("content", before[different], after[different], places)
    splits = np.array([split for split, _ in places])
    crossing = splits[before["file"]] != splits[after["file"]]
    return {
        "duplicates": {
            **_named("searches", before, after, places)["duplicates"],
            **_named("across_splits", before[crossing], after[crossing], places)["duplicates"],
        }
    }


def _named(kind: str, before: np.ndarray, after: np.ndarray, places: list[tuple[str, str]]) -> Partial:
    def place(row: np.void) -> str:
        return f"{places[row['file']][1]}: record {row['record']}"

    pairs = zip(before[:MAX_EXAMPLES], after[:MAX_EXAMPLES], strict=True)
    examples = tuple(sorted(f"{place(one)} and {place(other)}" for one, other in pairs))
    return {"duplicates": {kind: Found(len(after), examples) if len(after) else Found()}}
