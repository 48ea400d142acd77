from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cvr.data import Batch
from cvr.errors import CvrError
from cvr.ranker import Ranker
from cvr.runs import load_ranker
from export.storage import Storage, StoredTable, convert, quantised_rows, stored_bytes
from tests.export.tiny import make_run
from tests.support import batch_of, random_columns

NUMBERS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=NUMBERS))
def test_int8_is_off_by_at_most_half_a_step(table: np.ndarray) -> None:
    codes, scales = quantised_rows(table)
    assert codes.dtype == np.int8 and scales.dtype == np.float32 and scales.shape == (len(table),)
    back = codes.astype(np.float64) * scales.astype(np.float64)[:, None]
    step = np.abs(table.astype(np.float64)).max(axis=1, keepdims=True) / 127
    assert (np.abs(back - table) <= step * (0.5 + 1e-4) + 1e-38).all()
    np.testing.assert_array_equal(codes[scales == 0], 0)


def test_int8_by_hand() -> None:
    codes, scales = quantised_rows(np.array([[127.0, -63.6, 0.4], [0.0, 0.0, 0.0], [-2.54, 0.03, 1.27]], np.float32))
    np.testing.assert_array_equal(codes, [[127, -64, 0], [0, 0, 0], [-127, 2, 64]])  # 0.03 / 0.02 = 1.5 and 63.5 go to the even one
    np.testing.assert_allclose(scales, [1.0, 0.0, 0.02], rtol=1e-6)
    with pytest.raises(CvrError, match="row 1 of an embedding table is not finite"):
        quantised_rows(np.array([[1.0], [np.nan]], np.float32))


def _rounded(values: np.ndarray) -> np.ndarray:
    """bfloat16 by its bits: the upper 16 of a float32, rounded to even."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_a_stored_table_looks_up_rounded_rows(storage: str) -> None:
    table = np.random.default_rng(0).normal(0.0, 3.0, (9, 5)).astype(np.float32)
    stored, rows = StoredTable(tf.Variable(table, name="table"), storage), np.array([[0, 8], [3, 3]])
    codes, scales = quantised_rows(table)
    expected = _rounded(table) if storage == "bfloat16" else codes.astype(np.float32) * scales[:, None]
    found = stored.look_up(tf.constant(rows)).numpy()
    assert found.dtype == np.float32 and found.shape == (2, 2, 5)
    np.testing.assert_array_equal(found, expected[rows])
    assert (np.abs(_rounded(table) - table) <= 2.0**-8 * np.abs(table)).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "model"
    make_run(path)
    return path


@pytest.fixture(scope="module")
def batch(folder: Path) -> Batch:
    spec = load_ranker(folder)[1].spec
    return batch_of(spec, random_columns(spec, 4))


def _stored(folder: Path, storage: Storage) -> Ranker:
    ranker, _ = load_ranker(folder, storage.precision)
    convert(ranker, storage)
    return ranker


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_a_ranker_with_stored_tables_is_one_whose_tables_were_rounded(folder: Path, batch: Batch, storage: str) -> None:
    stored, rounded = _stored(folder, Storage(tables=storage)), load_ranker(folder)[0]
    before = rounded(batch).numpy()
    for table in rounded.extraction.table_variables:
        table.assign(StoredTable(table, storage).look_up(tf.range(table.shape[0])))
    found = stored(batch).numpy()
    np.testing.assert_allclose(found, rounded(batch).numpy(), atol=1e-6)
    assert np.abs(found - before).max() > 1e-5
    assert not {v.ref() for v in stored.variables} & {v.ref() for v in rounded.variables}


def test_bytes_by_hand(folder: Path) -> None:
    """54 x 3 (query), 14 x 2, 24 x 2, 34 x 2, 54 x 1 (title, in two parts), 9 x 2 and 8 x 2 (quotient, remainder); int8: + 4 a row."""
    exact = load_ranker(folder)[0]
    numbers, rows = 162 + 28 + 48 + 68 + 54 + 18 + 16, 54 + 14 + 24 + 34 + 54 + 9 + 8
    before = stored_bytes(exact)
    assert before["tables"] == 4 * numbers
    assert stored_bytes(_stored(folder, Storage(tables="bfloat16"))) == {**before, "tables": 2 * numbers}
    assert stored_bytes(_stored(folder, Storage(tables="int8"))) == {**before, "tables": numbers + 4 * rows}


def test_bfloat16_weights_are_those_of_the_mixed_policy(folder: Path, batch: Batch) -> None:
    """Keras casts float32 weights to bfloat16 before it computes with them; stored ones are cast already."""
    mixed, _ = load_ranker(folder, "mixed_bfloat16")
    stored = _stored(folder, Storage(weights="bfloat16"))
    np.testing.assert_array_equal(stored(batch).numpy(), mixed(batch).numpy())
    assert stored_bytes(stored)["other"] < 0.6 * stored_bytes(mixed)["other"]
    both = _stored(folder, Storage("bfloat16", "int8"))
    assert np.abs(both(batch).numpy() - stored(batch).numpy()).max() > 0
