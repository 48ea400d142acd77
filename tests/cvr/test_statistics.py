"""Statistics of stored features from the manifest, of derived ones from a pass over the data, and counts of table rows, against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvr.data import Budget, dummy_batch, split_files
from cvr.derived import DerivedFeatures
from cvr.extraction import Extraction
from cvr.manifest import Manifest
from cvr.statistics import derived_statistics, row_counts, stored_statistics
from tests.support import batch_of, random_columns, tiny_spec, write_lists

TEXT = """
dataset: stats
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  hour: {kind: numerical, level: context, from: impression.hour}
  price: {kind: numerical, level: item, from: item.price}
  seen: {kind: sequence, level: context, history: {events: [click], length: 4}, embedding: {buckets: 5, dim: 2}}
  size: {kind: numerical, level: context, derive: {op: list_size}}
  since: {kind: numerical, level: context, derive: {op: history_seconds_since, history: seen}}
  above: {kind: numerical, level: item, derive: {op: diff_above, feature: price}}
"""
COUNTED = """
dataset: counted
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
tables: {item: {buckets: 30, dim: 2, shrinkage: 5}}
features:
  item: {kind: categorical, level: item, from: impression.item_id, table: item}
  seen: {kind: sequence, level: context, history: {events: [click], length: 4}, table: item, encoder: target_attention}
  past: {kind: sequence, level: context, history: {events: [click], length: 4}, table: item}
  title: {kind: text, level: item, from: item.title, embedding: {buckets: 9, dim: 2, shrinkage: 1}}
  colour: {kind: categorical, level: context, from: impression.colour, vocabulary: [red], embedding: {buckets: 3, dim: 2, shrinkage: 1}}
  place: {kind: categorical, level: item, derive: {op: offset_to_last, history: seen}, embedding: {buckets: 6, dim: 2, shrinkage: 1}}
  plain: {kind: categorical, level: item, from: impression.plain, embedding: {buckets: 7, dim: 2}}
"""
SPEC = tiny_spec(TEXT)
PARTS = {name: [random_columns(SPEC, 25, seed)] for seed, name in enumerate(("train", "validation"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    path = tmp_path_factory.mktemp("lists")
    return path, write_lists(path, PARTS, TEXT)


def _expected(values: np.ndarray) -> list[float]:
    """Mean and population standard deviation of the finite values, plain and of their signed logarithm."""
    present = values[np.isfinite(values)].astype(np.float64)
    logs = np.sign(present) * np.log1p(np.abs(present))
    return [present.mean(), present.std(), logs.mean(), logs.std()]


def test_stored_features_over_the_splits_that_are_trained_on(folder: tuple[Path, Manifest]) -> None:
    for splits in (["train"], ["train", "validation"]):
        found = stored_statistics(SPEC, folder[1], splits)
        columns = [part for name in splits for part in PARTS[name]]
        assert set(found) == {"hour", "price"}
        np.testing.assert_allclose(
            found["hour"], _expected(np.concatenate([c.context_num for c in columns])), rtol=1e-9
        )
        np.testing.assert_allclose(found["price"], _expected(np.concatenate([c.item_num for c in columns])), rtol=1e-9)


def test_derived_features_over_real_rows_only(folder: tuple[Path, Manifest]) -> None:
    path, manifest = folder
    extraction = Extraction(SPEC)
    extraction(dummy_batch(SPEC))
    found = derived_statistics(extraction, split_files(path, manifest, ["train"]), Budget(20, 15))
    derived = DerivedFeatures(SPEC, batch_of(SPEC, PARTS["train"][0]))
    assert set(found) == {"size", "since", "above"}
    for name, values in found.items():
        np.testing.assert_allclose(
            values, _expected(derived.compute(SPEC.features[name]).numpy()), rtol=1e-6, err_msg=name
        )


def test_rows_are_counted_as_often_as_the_lists_read_them(tmp_path: Path) -> None:
    """Small batches with padding; the counts of all look-ups, and a row that was never read gives exactly zero."""
    spec, parts = tiny_spec(COUNTED), [random_columns(tiny_spec(COUNTED), 25, seed) for seed in (3, 4)]
    manifest = write_lists(tmp_path, {"train": parts}, COUNTED)
    extraction = Extraction(spec)
    extraction(dummy_batch(spec))
    found = row_counts(extraction, split_files(tmp_path, manifest, ["train"]), Budget(20, 15))
    assert set(found) == {"item", "title", "colour", "place"}

    def fold(ids: list[np.ndarray], buckets: int) -> np.ndarray:
        joined = np.concatenate(ids)
        return np.bincount(np.where(joined < 4, joined, 4 + (joined - 4) % buckets), minlength=buckets + 4)

    items = [array for p in parts for array in (p.cat["item"], p.item, p.sequences["seen"].item, p.sequences["past"].item)]
    np.testing.assert_array_equal(found["item"], fold(items, 30))
    np.testing.assert_array_equal(found["title"], fold([p.bags["title"].values for p in parts], 9))
    colours = np.concatenate([p.cat["colour"] for p in parts])  # no random id is the hash of red
    np.testing.assert_array_equal(found["colour"], np.bincount(np.where(colours < 4, colours, 3), minlength=7))
    assert found["place"].sum() == sum(len(p.item) for p in parts) and found["colour"].sum() == 50
    table = extraction.tables["colour"]
    table.set_counts(found["colour"])
    table.table.assign(np.ones((7, 2)))
    assert not table(np.array([4, 5, 6])).numpy().any() and table(np.array([3])).numpy().all()


def test_a_feature_that_no_list_has() -> None:
    part = random_columns(SPEC, 3, 0)
    manifest = Manifest(
        dataset="stats",
        source="test",
        created="",
        spec_fingerprint="",
        spec_text=TEXT,
        splits={"train": {"lists": len(part.lengths)}},
    )
    assert stored_statistics(SPEC, manifest, ["train"])["price"] == (0.0, 0.0, 0.0, 0.0)
