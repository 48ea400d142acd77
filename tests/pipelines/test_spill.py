"""Shuffles through files: references stand for the pieces, nothing is left behind, and a broken file is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cvr.errors import CvrError
from cvr.manifest import Manifest, load_manifest
from pipelines.batches import concat, to_bytes
from pipelines.job import build
from pipelines.settings import Settings
from pipelines.spill import describe, load, spilled
from tests.pipelines.logs import SPEC, read_split, settings, small_log, write_log

TABLES = [pa.table({"n": list(range(size))}) for size in (3, 0, 500)]
PIECES = [(place, to_bytes(f"t{place}", table)) for place, table in enumerate(TABLES)]


def test_references_give_the_pieces(tmp_path: Path) -> None:
    references = list(spilled(PIECES, str(tmp_path / "spill")))
    assert [place for place, _ in references] == [0, 1, 2]
    assert [load(piece) for _, piece in references] == [load(piece) for _, piece in PIECES] == [piece for _, piece in PIECES]
    expected = [("t0", 3), ("t1", 0), ("t2", 500)]
    assert [describe(piece) for _, piece in references] == [describe(piece) for _, piece in PIECES] == expected
    assert concat(load(piece) for _, piece in references)["t2"].column("n").to_pylist() == list(range(500))
    assert all(len(piece) < 300 for _, piece in references)
    assert len(list((tmp_path / "spill").iterdir())) == 1, "one file for all pieces of a step"


def test_without_a_folder_pieces_stay_as_they_are_and_without_pieces_there_is_no_file(tmp_path: Path) -> None:
    assert list(spilled(PIECES, None)) == PIECES
    assert list(spilled([], str(tmp_path / "spill"))) == [] and not (tmp_path / "spill").exists()


def test_a_step_that_fails_half_way_gives_no_reference(tmp_path: Path) -> None:
    def pieces():  # type: ignore[no-untyped-def]
        yield PIECES[0]
        raise KeyError("broken")

    found = spilled(pieces(), str(tmp_path / "spill"))
    with pytest.raises(KeyError):
        next(found)


@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_truncated_file_is_named(keep: int, tmp_path: Path) -> None:
    *_, (_, last) = spilled(PIECES, str(tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CvrError, match=f"{file}: is cut off: expected .* bytes from .* on"):
        load(last)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    *_, (_, last) = spilled(PIECES, str(tmp_path))
    (file,) = tmp_path.iterdir()
    file.unlink()
    with pytest.raises(CvrError, match=f"{file}: cannot be read"):
        load(last)


# Whole builds ---------------------------------------------------------------------------------------------------------------------


def _files(output: Path) -> dict[str, bytes]:
    """Record files by their path within the data folder."""
    return {str(path.relative_to(path.parents[2])): path.read_bytes() for path in output.glob("data-*/*/*/part-*")}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[Path, Manifest]]:
    """The tiny log built through files and without, with split customers."""
    log = write_log(tmp_path_factory.mktemp("log"), *small_log())
    outputs = {spill: tmp_path_factory.mktemp("out") for spill in (True, False)}
    return {spill: (output, build(settings(log, output, spill=spill, split_rows=15))) for spill, output in outputs.items()}


def test_the_way_of_the_shuffle_changes_no_byte_and_leaves_nothing(builds: dict[bool, tuple[Path, Manifest]]) -> None:
    through_files, inline = _files(builds[True][0]), _files(builds[False][0])
    assert through_files == inline and any("-c0-s1.tfrecord.gz" in path for path in inline)
    for output, manifest in builds.values():
        assert sorted(path.name for path in output.iterdir()) == [f"data-{next(output.glob('data-*')).name[5:]}", "manifest.json"]
        assert {path.name for path in next(output.glob("data-*")).iterdir()} == {"counts.json", "train", "test"}
        assert manifest.counts["partitions"] == {"split_customers": 5}
    assert builds[True][1].counts == builds[False][1].counts


def test_split_customers_change_no_record(builds: dict[bool, tuple[Path, Manifest]], tmp_path: Path) -> None:
    whole, (output, split) = build(settings(write_log(tmp_path / "log", *small_log()), tmp_path / "out")), builds[True]
    for name in ("train", "test"):
        expected, found = read_split(tmp_path / "out", name), read_split(output, name)
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values, err_msg=key)
        mine, theirs = (manifest.split(name).model_dump(exclude={"files"}) for manifest in (split, whole))
        sums = mine.pop("statistics"), theirs.pop("statistics")  # floats are added up in another order
        assert sums[0] == {feature: pytest.approx(values) for feature, values in sums[1].items()} and mine == theirs
    assert split.counts["partitions"] == {"split_customers": 5} and whole.counts["partitions"] == {"split_customers": 0}
    assert {k: v for k, v in split.counts.items() if k != "partitions"} == {k: v for k, v in whole.counts.items() if k != "partitions"}


def test_a_spec_that_asks_nothing_of_others_with_split_customers(tmp_path: Path) -> None:
    text = SPEC[: SPEC.index("features:")] + "features:\n  price: {kind: numerical, level: item, from: impression.price}\n"
    log = write_log(tmp_path / "log", *small_log())
    manifest = build(settings(log, tmp_path / "out", text, popularity_bucket=None, split_rows=15))
    assert manifest.counts["partitions"] == {"split_customers": 5}
    found = [read_split(tmp_path / "out", name) for name in ("train", "test")]
    items = [3 + (number % 3 == 2) for number in range(28)]
    prices = [sum(number * items[number] for number in part) for part in (range(24), range(24, 28))]
    assert [one["item_num"][:, 0].sum() for one in found] == prices
    assert all(np.isnan(one["popularity"]).all() for one in found)


def test_record_files_of_split_customers_are_listed(builds: dict[bool, tuple[Path, Manifest]]) -> None:
    output, _ = builds[True]
    manifest = load_manifest(output)
    listed = {file.path for split in manifest.splits.values() for file in split.files}
    assert listed == {str(path.relative_to(output)) for path in output.glob("data-*/*/*/part-*")}
    assert sum(split.lists for split in manifest.splits.values()) == 28


def test_files_are_used_where_output_and_runner_are_on_this_machine() -> None:
    flags = Settings("canonical", "i", "/o", "")
    assert flags.spill is None and flags.spill_folder is None
    assert Settings("canonical", "i", "/o", "", spill=True, build_id="b").spill_folder == "/o/data-b/spill"


def test_references_are_one_line_of_json(tmp_path: Path) -> None:
    (_, piece), *_ = spilled(PIECES, str(tmp_path))
    about = json.loads(piece.split(b":", 1)[1])
    assert {key: about[key] for key in ("offset", "table", "rows")} == {"offset": 0, "table": "t0", "rows": 3}
    assert about["size"] == len(PIECES[0][1]) and Path(about["path"]).parent == tmp_path
