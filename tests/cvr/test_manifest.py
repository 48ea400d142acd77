"""The manifest: statistics that merge, publication in one step, and messages for what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.errors import CvrError
from cvr.manifest import Manifest, Moments, RecordFile, Split, load_manifest, publish_json
from tests.support import SPEC, moments, tiny_spec


def _manifest(**splits: Split) -> Manifest:
    spec = tiny_spec()
    return Manifest(
        dataset="tiny", source="test", created="now", spec_fingerprint=spec.fingerprint, spec_text=SPEC, splits=splits
    )


def _file(sha256: str) -> RecordFile:
    return RecordFile(path="p", day="2026-01-01", lists=1, items=2, bytes=3, sha256=sha256)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=20), st.integers(0, 20))
def test_moments_merge_to_those_of_all_values(values: list[float], cut: int) -> None:
    array = np.array(values)
    merged = moments(array[:cut]).merge(moments(array[cut:]))
    assert merged.count == len(values)
    if values:
        np.testing.assert_allclose(merged.mean_std()[0], array.mean(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(merged.mean_std()[1], array.std(), rtol=1e-4, atol=1e-5 * np.abs(array).max())
        assert (merged.minimum, merged.maximum) == (array.min(), array.max())


def test_moments_of_nothing_and_of_a_constant() -> None:
    assert Moments().mean_std() == (0.0, 0.0) and Moments().merge(Moments()) == Moments()
    constant = moments(np.full(1000, 1234.5678))
    mean, std = constant.mean_std()
    assert std == 0.0 and abs(mean - 1234.5678) < 1e-9


def test_moments_count_missing_and_unseen_apart() -> None:
    found = moments(np.array([1.0, np.nan, -np.inf, -np.inf]))
    assert (found.count, found.missing, found.unseen) == (1, 1, 2)


def test_lists_of_an_older_format(tmp_path: Path) -> None:
    publish_json(tmp_path / "manifest.json", _manifest(train=Split(lists=3)).model_copy(update={"format_version": 1}))
    with pytest.raises(CvrError, match="these lists have format version 1, and this version of cvr reads 2; build them anew"):
        load_manifest(tmp_path)


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    manifest = _manifest(
        train=Split(files=[_file("x")], lists=1, items=2, statistics={"price": moments(np.array([1.0]))})
    )
    publish_json(tmp_path / "manifest.json", manifest)
    assert load_manifest(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert manifest.spec() == tiny_spec()


def test_publishing_replaces_in_one_step_and_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    publish_json(path, {"a": 1})
    with pytest.raises(TypeError):
        publish_json(path, {"a": object()})
    assert path.read_text() == '{\n "a": 1\n}\n'
    publish_json(path, {"a": 2})
    assert '"a": 2' in path.read_text() and len(list(tmp_path.iterdir())) == 1


def test_nothing_published(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match=f"no manifest.json in {tmp_path}; build the lists first"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"dataset": 1}'])
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CvrError, match="manifest.json: .*rebuild the lists with this version"):
        load_manifest(tmp_path)


def test_an_absent_or_empty_split_names_those_there_are() -> None:
    manifest = _manifest(train=Split(lists=3), test=Split())
    assert manifest.split("train").lists == 3
    for name in ("test", "validation"):
        with pytest.raises(CvrError, match=f"split '{name}' holds no list; this folder has .*'train': 3"):
            manifest.split(name)


def test_the_data_fingerprint_follows_the_files_whatever_their_order() -> None:
    one, two = _file("1"), _file("2")
    original = _manifest(train=Split(files=[one, two])).data_fingerprint()
    assert _manifest(train=Split(files=[two, one])).data_fingerprint() == original
    assert _manifest(train=Split(files=[one])).data_fingerprint() != original
    assert _manifest(train=Split(files=[one]), test=Split(files=[two])).data_fingerprint() != original
