"""Published lists of both formats are found by place, day and search id, or it is said what there is instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from isal import igzip

from cvr.errors import CvrError
from cvr.stored import Part, Selection, StoredLists
from pipelines.record_files import read_records
from pipelines.write import frame

FORMATS = ("lists", "elwc")


def _ids(parts: list[Part]) -> list[str]:
    return [search.decode() for part in parts for search in part.columns.search_id]


@pytest.fixture(params=FORMATS)
def stored(both_formats: Path, request: pytest.FixtureRequest) -> StoredLists:
    return StoredLists(both_formats / request.param)


def test_all_lists_of_a_split_in_the_order_of_its_files(stored: StoredLists) -> None:
    parts = list(stored.read(Selection("train")))
    assert [part.file for part in parts] == stored.manifest.split("train").files
    assert sorted(_ids(parts)) == sorted(f"s{n}" for n in range(24))
    assert [int(n) for part in parts for n in part.numbers] == list(range(24))
    assert all(part.rows.tolist() == list(range(part.file.lists)) for part in parts)


def test_lists_by_place_day_and_search_id(stored: StoredLists) -> None:
    order = _ids(list(stored.read(Selection("train"))))
    some = list(stored.read(Selection("train", start=3, count=10)))
    assert _ids(some) == order[3:13] and [int(n) for part in some for n in part.numbers] == list(range(3, 13))
    assert sorted(_ids(list(stored.read(Selection("train", days=["2026-01-02"]))))) == sorted(f"s{n}" for n in range(12, 24))
    found = list(stored.read(Selection("train", search_ids=["s20", "s3"])))
    assert sorted(_ids(found)) == ["s20", "s3"]
    assert [order[number] for part in found for number in part.numbers] == _ids(found)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection("validation"), "split 'validation' holds no list"),
        (Selection("train", start=24), "no list number 24: split 'train' holds 24"),
        (Selection("train", days=["2026-01-09"]), "no list of day 2026-01-09; its 2 days .*, the nearest: 2026-01-02"),
        (Selection("train", search_ids=["s3", "s25"]), "'s25' is not among these lists but in split 'test', day 2026-01-03"),
        (Selection("train", days=["2026-01-01"], search_ids=["s14"]), "'s14' is not among .* in split 'train', day 2026-01-02"),
        (Selection("train", search_ids=["s2000"]), "'s2000' is in no split .* Ids like it in split 'train': 's20'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_an_error_with_a_hint(stored: StoredLists, selection: Selection, message: str) -> None:
    with pytest.raises(CvrError, match=message):
        list(stored.read(selection))


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_record_is_named(both_formats: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(both_formats / name, tmp_path / name))
    file = StoredLists(folder).manifest.split("train").files[0]
    path = folder / file.path
    records = read_records(str(path))
    records[1] = records[1][:-9] + b"\x00" * 9
    _write(folder, path, igzip.compress(frame(records)))
    with pytest.raises(CvrError, match=f"{path.name}: record 1 .from 0.: "):
        list(StoredLists(folder).read(Selection("train")))
    _write(folder, path, igzip.compress(frame(records[1:])))
    with pytest.raises(CvrError, match=f"{path.name}: holds {file.lists - 1} records, its manifest says {file.lists}"):
        list(StoredLists(folder).read(Selection("train")))
    _write(folder, path, b"no gzip")
    with pytest.raises(CvrError, match=f"{path.name}: cut off or changed"):
        list(StoredLists(folder).read(Selection("train")))


def _write(folder: Path, path: Path, content: bytes) -> None:
    """Replaces a record file and its size in the manifest."""
    stored = StoredLists(folder)
    file = next(file for file in stored.manifest.split("train").files if path == folder / file.path)
    file.bytes = len(content)
    path.write_bytes(content)
    (folder / "manifest.json").write_text(stored.manifest.model_dump_json())
