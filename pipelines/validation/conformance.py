"""What a record file must be: as the manifest says, as `cvr.records` writes it, and with values that can be."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError
from cvr.records import ListColumns, decode, encode
from cvr.schema import FeatureSpec
from cvr.transforms import EMPTY, FIRST_ID, PAD, UNSEEN
from pipelines.lists import UNSHOWN
from pipelines.record_files import read_bytes, unpack_records
from pipelines.settings import format_time
from pipelines.validation.inputs import Element, Source, day_range
from pipelines.validation.merging import Found

Violations = dict[str, Found]

KINDS = {
    "files": "every file is there and can be read",
    "size": "file sizes are the manifest's",
    "checksum": "SHA-256 of files are the manifest's",
    "records": "records fit the spec and are as cvr.records writes them",
    "counts": "files hold as many lists and items as the manifest says",
    "positions": "positions start at 1 or later and increase strictly, and un-exposed items (0) stand behind them, in training lists only",
    "labels": "labels are 0 or 1 and agree with delays and windows",
    "split_times": "list times lie inside their split",
    "days": "list times lie inside their day's folder",
    "ids": "no id is padding or negative, no item has a reserved id",
    "histories": "ages of histories are not negative, most recent first",
    "lists": "no list is empty",
}


def found(kind: str, place: str, mask: np.ndarray | None = None, count: int = 1) -> Violations:
    """A violation at a place, `count` times or as often as the mask says; {} where that is never."""
    number = count if mask is None else int(mask.sum())
    return {kind: Found(number, (place,))} if number else {}


def read(source: Source, element: Element) -> tuple[ListColumns | None, Violations]:
    """A file's lists, or None where it cannot be used, and what is wrong with the file as such."""
    path = FileSystems.join(source.folder, element.path)
    wrong: Violations = {}
    try:
        data = read_bytes(path)
        wrong = _file_violations(element, data)
        records = unpack_records(data, element.path)
    except CvrError as error:
        return None, wrong | found("files", str(error).replace(path, element.path).split("; it may be")[0])
    columns, reason = _decode(source.spec, records, element.path)
    if columns is None:
        return None, wrong | found("records", reason)
    written = encode(source.spec, columns)
    if written != records:
        number = next(place for place, record in enumerate(records) if record != written[place])
        wrong |= found("records", f"{element.path}: record {number} (from 0): parts of it belong to another list")
        return None, wrong
    have = len(columns.lengths), int(columns.lengths.sum())
    if have != (element.lists, element.items):
        said = f"{element.lists} lists and {element.items} items in the manifest, {have[0]} and {have[1]} in the file"
        wrong |= found("counts", f"{element.path}: {said}")
    return columns, wrong


def decode_file(source: Source, element: Element) -> ListColumns | None:
    """A file's lists again, after `read` has said what is wrong with them; None where they cannot be decoded."""
    try:
        records = unpack_records(read_bytes(FileSystems.join(source.folder, element.path)), element.path)
        return decode(source.spec, records)
    except ValueError:
        return None


def _file_violations(element: Element, data: bytes) -> Violations:
    wrong: Violations = {}
    if len(data) != element.bytes:
        wrong |= found("size", f"{element.path}: {element.bytes} bytes in the manifest, {len(data)} in the file")
    if hashlib.sha256(data).hexdigest() != element.sha256:
        wrong |= found("checksum", element.path)
    return wrong


def _decode(spec: FeatureSpec, records: Sequence[bytes], path: str) -> tuple[ListColumns | None, str]:
    """The columns, or None and which record does not fit. Records that fit one by one but not together do not occur: shapes add up."""
    try:
        return decode(spec, records), ""
    except ValueError:
        low, high = 0, len(records)
    reason = ""
    while high - low > 1:
        middle = (low + high) // 2
        if _fits(spec, records[low:middle]):
            low = middle
        else:
            high = middle
    try:
        decode(spec, records[low:high])
    except ValueError as error:
        reason = str(error).splitlines()[0]
    return None, f"{path}: record {low} (from 0): {reason}"


def _fits(spec: FeatureSpec, records: Sequence[bytes]) -> bool:
    try:
        decode(spec, records)
    except ValueError:
        return False
    return True


def check_values(source: Source, element: Element, columns: ListColumns) -> Violations:
    """What is wrong with the values of a file's lists. Columns come from `read`, so their shapes fit."""
    wrong = _check_lists(source, element, columns)
    wrong |= _check_labels(source.spec, element, columns)
    return wrong | _check_ids(element, columns) | _check_histories(element, columns)


def _example(element: Element, columns: ListColumns, lists: np.ndarray) -> str:
    """Describes the first of the masked lists [L]."""
    first = int(np.argmax(lists))
    name = columns.search_id[first].decode(errors="replace")
    return f"{element.path}: record {first} (from 0), search {name!r}"


def _per_list(columns: ListColumns, items: np.ndarray) -> np.ndarray:
    """Mask [L] of the lists with any masked item [N]."""
    rows = np.repeat(np.arange(len(columns.lengths)), columns.lengths)
    return np.bincount(rows[items], minlength=len(columns.lengths)) > 0


def _check_lists(source: Source, element: Element, columns: ListColumns) -> Violations:
    first = np.zeros(len(columns.item), bool)
    first[(np.cumsum(columns.lengths) - columns.lengths)[columns.lengths > 0]] = True
    place = np.where(columns.position == 0, UNSHOWN, columns.position)
    below = np.where(first, 0, np.append(0, place[:-1])) if len(first) else place
    unshown = columns.position == 0
    disordered = _per_list(columns, (place <= below) & ~unshown | (unshown & (element.split != "train")) | (columns.position < 0))
    low, high = source.times.get(element.split, (None, None))
    outside = (columns.time < (0 if low is None else low)) | (columns.time >= (2**62 if high is None else high))
    first_of_day, next_day = day_range(element.day)
    elsewhere = (columns.time < first_of_day) | (columns.time >= next_day)
    masks = {"lists": columns.lengths == 0, "positions": disordered, "split_times": outside, "days": elsewhere}
    wrong: Violations = {}
    for kind, mask in masks.items():
        if mask.any():
            at = format_time(int(columns.time[np.argmax(mask)])) if kind in ("split_times", "days") else ""
            wrong |= found(kind, _example(element, columns, mask) + (f" at {at}" if at else ""), mask)
    return wrong


def _check_labels(spec: FeatureSpec, element: Element, columns: ListColumns) -> Violations:
    windows = np.array([task.window for task in spec.tasks.values()])
    binary = (columns.labels == 0) | (columns.labels == 1)
    inside = (columns.delay >= 0) & (columns.delay <= windows)
    consistent = np.where(columns.labels == 1, inside, columns.delay == -1)
    wrong = _per_list(columns, ~(binary & consistent).all(axis=1))
    return found("labels", _example(element, columns, wrong), wrong) if wrong.any() else {}


def _check_ids(element: Element, columns: ListColumns) -> Violations:
    sequences = {f"{name}/item": found.item for name, found in columns.sequences.items()}
    bags = {name: bag.values for name, bag in columns.bags.items()}
    all_ids = {**columns.cat, **bags, **sequences}
    wrong: Violations = {}
    for name, ids in all_ids.items():
        bad = ids <= PAD
        if bad.any():
            wrong["ids"] = wrong.get("ids", Found()).merge(Found(int(bad.sum()), (f"{element.path}: {name}",)))
    bad = columns.item < FIRST_ID
    if bad.any():
        wrong["ids"] = wrong.get("ids", Found()).merge(Found(int(bad.sum()), (f"{element.path}: item",)))
    return wrong


def _check_histories(element: Element, columns: ListColumns) -> Violations:
    wrong: Violations = {}
    for name, sequence in columns.sequences.items():
        owner = np.repeat(np.arange(len(sequence.lengths)), sequence.lengths)
        bad = (sequence.age < 0) | ~np.isfinite(sequence.age) | (sequence.action == EMPTY)
        bad[1:] |= (sequence.age[1:] < sequence.age[:-1]) & (owner[1:] == owner[:-1])
        bad &= sequence.action != UNSEEN
        if bad.any():
            wrong["histories"] = Found(int(bad.sum()), (f"{element.path}: {name}",))
    return wrong
