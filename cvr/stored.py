"""Published lists of either record format, read back as columns: of a split, some days, some searches, from a place on."""

from __future__ import annotations

import bisect
import dataclasses
import difflib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvr import elwc, records
from cvr.data import split_files
from cvr.errors import CvrError
from cvr.manifest import RecordFile, load_manifest
from cvr.records import ListColumns

FORMATS = ("lists", "elwc")
_NEIGHBOURS = 5
_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class Selection:
    """Lists of a split: those of `days` (`2026-01-31`), and of them those with `search_ids`, or at most `count` from number `start` on."""

    split: str
    days: Collection[str] | None = None
    search_ids: Collection[str] | None = None
    start: int = 0
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """Chosen lists of one file: `rows` int64 [L] are their places in it, `numbers` [L] their places among the lists of the chosen days."""

    file: RecordFile
    rows: np.ndarray
    numbers: np.ndarray
    columns: ListColumns


class StoredLists:
    """A folder of published lists.

    Args:
      folder: where `manifest.json` is. Raises CvrError where nothing was published.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder
        self.manifest = load_manifest(folder, FORMATS)
        self.spec = self.manifest.spec()
        self._elwc = self.manifest.record_format == "elwc"

    def read(self, selection: Selection) -> Iterator[Part]:
        """The chosen lists, file by file in the manifest's order; a file that holds none of them gives no part.

        Raises CvrError where the split or a day holds no list, a search id is not there, or a file is broken.
        """
        files = self._files(selection)
        return self._by_search(files, selection) if selection.search_ids else self._by_number(files, selection)

    def _by_number(self, files: list[tuple[str, RecordFile]], selection: Selection) -> Iterator[Part]:
        total = sum(file.lists for _, file in files)
        if selection.start >= total:
            raise CvrError(f"there is no list number {selection.start}: split {selection.split!r} holds {total:,}, counted from 0")
        end, first = total if selection.count is None else selection.start + selection.count, 0
        for path, file in files:
            rows = np.arange(max(selection.start - first, 0), min(end - first, file.lists))
            if len(rows):
                yield self._part(path, file, self._records(path, file), rows, first)
            first += file.lists

    def _by_search(self, files: list[tuple[str, RecordFile]], selection: Selection) -> Iterator[Part]:
        left, first = set(selection.search_ids or ()), 0
        for path, file in files:
            stored = self._records(path, file)
            ids = self._search_ids(stored, path)
            rows = np.flatnonzero(np.isin(ids, list(left)))
            if len(rows):
                yield self._part(path, file, stored, rows, first)
            left -= set(ids[rows])
            if not left:
                return
            first += file.lists
        raise CvrError(self._absent(selection, min(left)))

    def _files(self, selection: Selection) -> list[tuple[str, RecordFile]]:
        """Paths and files of a split's chosen days."""
        paths = split_files(self.folder, self.manifest, [selection.split])
        named = list(zip(paths, self.manifest.split(selection.split).files, strict=True))
        if not selection.days:
            return named
        have = sorted({file.day for _, file in named})
        for day in sorted(set(selection.days) - set(have)):
            near = have[max(bisect.bisect(have, day) - 1, 0) :][:2]
            raise CvrError(
                f"split {selection.split!r} holds no list of day {day}; its {len(have)} days go from {have[0]} to {have[-1]}, "
                f"the nearest: {', '.join(near)}"
            )
        return [(path, file) for path, file in named if file.day in selection.days]

    def _records(self, path: str, file: RecordFile) -> list[bytes]:
        try:
            dataset = tf.data.TFRecordDataset(path, "GZIP" if path.endswith(".gz") else "", buffer_size=1 << 20)
            found = [record for batch in dataset.batch(_BATCH).as_numpy_iterator() for record in batch]
        except tf.errors.DataLossError as error:
            raise CvrError(f"{path}: cut off or changed; rebuild the lists") from error
        if len(found) != file.lists:
            raise CvrError(f"{path}: holds {len(found)} records, its manifest says {file.lists}; rebuild the lists")
        return found

    def _search_ids(self, stored: Sequence[bytes], path: str) -> np.ndarray:
        """Search ids of records as text, object [R]."""
        try:
            ids = elwc.search_ids(stored) if self._elwc else records.search_ids(tf.constant(stored, tf.string))
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise CvrError(f"{path}: a record is no list of format {self.manifest.record_format}; rebuild the lists") from error
        return np.array([found.decode(errors="replace") for found in ids.numpy()], object)

    def _part(self, path: str, file: RecordFile, stored: Sequence[bytes], rows: np.ndarray, first: int) -> Part:
        decode = elwc.decode_elwc if self._elwc else records.decode
        try:
            return Part(file, rows, first + rows, decode(self.spec, [stored[row] for row in rows]))
        except ValueError as error:
            for row in rows:
                try:
                    decode(self.spec, [stored[row]])
                except ValueError as reason:
                    raise CvrError(f"{path}: record {row} (from 0): {reason}") from error
            raise CvrError(f"{path}: {error}") from error

    def locate(self, search_id: str) -> tuple[str, RecordFile] | None:
        """The split and file that hold a search id; None where no split does. It reads all splits up to there."""
        for name, split in self.manifest.splits.items():
            for path, file in self._files(Selection(name)) if split.lists else []:
                if search_id in self._search_ids(self._records(path, file), path):
                    return name, file
        return None

    def _absent(self, selection: Selection, wanted: str) -> str:
        """Says where a search id is instead, or which ids of the split are like it."""
        found = self.locate(wanted)
        if found:
            return f"search id {wanted!r} is not among these lists but in split {found[0]!r}, day {found[1].day}"
        near: list[str] = []
        for path, file in self._files(Selection(selection.split)):
            ids = sorted(self._search_ids(self._records(path, file), path))
            place = bisect.bisect_left(ids, wanted)
            near += ids[max(place - _NEIGHBOURS, 0) : place + _NEIGHBOURS]
        like = ", ".join(map(repr, difflib.get_close_matches(wanted, near, n=3, cutoff=0.0)))
        return (
            f"search id {wanted!r} is in no split of {self.folder}; its list may have been set aside as immature, unconverted or out of "
            f"range (the manifest's counts say how many were). Ids like it in split {selection.split!r}: {like}"
        )
