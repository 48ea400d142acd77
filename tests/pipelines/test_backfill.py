"""Backfills of a tiny log: a feature computed later for old partitions equals one that was there from the beginning."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.records import Layout
from pipelines.backfilling.job import backfill
from pipelines.backfilling.request import Request
from pipelines.job import build
from tests.pipelines.backfilled import (
    END,
    KEPT,
    LAUNCH,
    NEW,
    START,
    assert_same,
    check_manifest,
    digests,
    flat,
    read,
    rich_log,
    spec_of,
)
from tests.pipelines.logs import settings, write_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), *rich_log())


@pytest.fixture(scope="module")
def old(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists in which every feature of NEW starts on the third day."""
    output = tmp_path_factory.mktemp("old") / "lists"
    build(settings(log, output, spec_of(list(NEW), LAUNCH), drop_unconverted="train"))
    return output


def test_backfill_equals_a_build_that_always_had_the_features(log: Path, old: Path, tmp_path: Path) -> None:
    before = digests(old)
    build(settings(log, tmp_path / "full", spec_of(list(NEW)), drop_unconverted="train"))
    manifest = backfill(Request(str(old), str(tmp_path / "new"), tuple(NEW), START, END))
    new = tmp_path / "new"
    assert digests(old) == before
    assert assert_same(read(new, (START, "9")), read(tmp_path / "full", (START, "9"))) == 8 + 5 + 10
    assert assert_same(read(new, ("", START)), read(old, ("", START))) == 8 + 5 + 10
    assert_same(read(new), read(old), but=tuple(NEW))
    assert flat(read(new)[1].item_num) != flat(read(old)[1].item_num)
    check_manifest(new)
    # Searches 0..11 are on the first day, 12..23 on the second; even ones are converted, and training keeps only those.
    change = manifest.changes[-1]
    assert {key: change[key] for key in ("kind", "features", "start", "end", "lists", "matched", "unmatched")} == {
        "kind": "backfill", "features": list(NEW), "start": START, "end": END, "lists": 6, "matched": 6, "unmatched": 0,
    }  # fmt: skip
    # These lists have 3 + 4 + 3 + 3 + 4 + 3 items; the device of even searches is null.
    nothing = {"present": 0, "missing": 0, "unseen": 0, "unknown": 0}
    assert change["coverage"]["price"] == {"before": {**nothing, "unseen": 20}, "after": {**nothing, "present": 20}}
    assert change["coverage"]["device"] == {"before": {**nothing, "unseen": 6}, "after": {**nothing, "missing": 6}}
    assert change["from"] == load_manifest(old).data_fingerprint() != manifest.data_fingerprint()
    assert load_manifest(new) == manifest and not (new / "work").exists()


def test_files_outside_the_range_are_the_same_files(old: Path, log: Path, tmp_path: Path) -> None:
    """Also where the spec changes on the model's side, which records know nothing of."""
    text = load_manifest(old).spec_text.replace("buckets: 64", "buckets: 32")
    backfill(Request(str(old), str(tmp_path / "new"), ("title",), START, END, spec_text=text, input=str(log)))
    manifest = load_manifest(tmp_path / "new")
    assert manifest.spec_text == text and manifest.spec_fingerprint == load_manifest(old).spec_fingerprint
    for name, split in manifest.splits.items():
        for file, source in zip(split.files, load_manifest(old).splits[name].files, strict=True):
            assert (tmp_path / "new" / file.path).samefile(old / source.path) == (file.day != START)


def test_features_that_only_the_new_spec_has(log: Path, tmp_path: Path) -> None:
    old, new, full = (tmp_path / name for name in ("old", "new", "full"))
    flags = {"split_rows": 20, "sampling_rate": 0.8, "sampling_seed": 5}
    built = build(settings(log, old, spec_of(["recent"]), **flags))
    assert built.counts["lists"]["not_sampled"] and any("-c0-s1." in file.path for file in built.splits["train"].files)
    swapped = KEPT.strip("\n").split("\n")
    text = spec_of(["price", "tags", "recent", "query_clicks", "title"], first="\n" + "\n".join(reversed(swapped)) + "\n")
    features = ("title", "price", "tags", "query_clicks")
    backfill(Request(str(old), str(new), features, "2026-01-01", "2026-01-03", spec_text=text))
    build(settings(log, full, text, **flags))
    assert load_manifest(new).spec_fingerprint == load_manifest(full).spec_fingerprint
    assert_same(read(new, ("", "2026-01-03")), read(full, ("", "2026-01-03")))
    late = read(new, ("2026-01-03", "9"))
    assert_same(late, read(old, ("2026-01-03", "9")), but=features)
    assert np.all(np.isneginf(late[1].item_num[:, Layout.of(late[0]).item_num.index("price")]))
    assert set(late[1].bags["tags"].values) == set(late[1].bags["title"].values) == {1}
    check_manifest(new)


def test_lists_that_the_log_no_longer_holds_keep_their_values(log: Path, old: Path, tmp_path: Path) -> None:
    rows, events = rich_log()
    changed = [row for row in rows if row["search_id"] != "s14" and (row["search_id"], row["item_id"]) != ("s16", "a")]
    part = write_log(tmp_path / "log", [*changed, {**changed[0], "item_id": None}], events)
    request = Request(str(old), str(tmp_path / "new"), ("price", "recent", "tags"), START, END, input=str(part), max_bad_fraction=0.01)
    with pytest.raises(CvrError, match=r"2 of 6 lists are not in the log .* as they were \(allowed --max_unmatched_fraction=0.001\)"):
        backfill(request)
    assert not (tmp_path / "new" / "manifest.json").exists()
    manifest = backfill(dataclasses.replace(request, max_unmatched_fraction=0.34))
    assert (manifest.changes[-1]["matched"], manifest.changes[-1]["unmatched"]) == (4, 2)
    spec, columns = read(tmp_path / "new", (START, END))
    assert columns.search_id.tolist() == [b"s12", b"s14", b"s16", b"s18", b"s20", b"s22"]
    price = columns.item_num[:, Layout.of(spec).item_num.index("price")]
    starts = np.cumsum(columns.lengths) - columns.lengths
    assert price[starts].tolist() == [12.0, -np.inf, -np.inf, 18.0, 20.0, 22.0]
    assert columns.sequences["recent"].lengths.tolist() == [3, 1, 1, 3, 3, 3]
    named = [json.loads(line)["search_id"] for path in (tmp_path / "new").glob("data-*/unmatched/**/*.jsonl") for line in path.open()]
    assert sorted(named) == ["s14", "s16"]
    (letters,) = (tmp_path / "new").glob("data-*/bad/*.jsonl")
    assert json.loads(letters.read_text())["reason"] == "item_id is null or empty"
    assert_same(read(tmp_path / "new"), read(old), but=("price", "recent", "tags"))


def test_a_second_backfill_builds_on_the_first(log: Path, old: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    backfill(Request(str(old), str(first), ("price",), START, END))
    manifest = backfill(Request(str(first), str(second), ("title",), "2026-01-01", END))
    assert [change["features"] for change in manifest.changes] == [["price"], ["title"]]
    assert manifest.changes[1]["from"] == load_manifest(first).data_fingerprint()
    assert_same(read(second), read(first), but=("title",))
    check_manifest(second)
