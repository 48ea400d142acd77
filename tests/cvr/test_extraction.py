"""Feature extraction: where each feature goes, and which row of which table it reads."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr import records, transforms
from cvr.data import Batch, dummy_batch
from cvr.extraction import Extraction
from cvr.schema import FeatureSpec, parse_spec
from tests.support import batch_of, random_columns, tiny_spec

SHARED = """
dataset: shared
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
tables: {brand: {buckets: 6, dim: 3}}
features:
  liked: {kind: categorical, level: context, from: impression.liked, table: brand}
  brand: {kind: categorical, level: item, from: item.brand, table: brand}
  seen: {kind: sequence, level: context, history: {events: [click], length: 3}, embedding: {buckets: 6, dim: 2}}
  offset: {kind: categorical, level: item, derive: {op: offset_to_last, history: seen}, embedding: {buckets: 4, dim: 2}}
"""


def _build(spec: FeatureSpec) -> Extraction:
    extraction = Extraction(spec)
    extraction(dummy_batch(spec))
    source = np.random.default_rng(0)
    for variable in extraction.trainable_variables:
        variable.assign(source.normal(0, 1, variable.shape))
    return extraction


@pytest.fixture(scope="module")
def shared() -> tuple[Extraction, Batch]:
    """A list of seven items whose third was clicked, and one with an empty history."""
    spec = parse_spec(SHARED)
    columns = records.ListColumns(
        search_id=np.array(["a", "b"], object),
        time=np.zeros(2, np.int64),
        lengths=np.array([7, 1]),
        item=np.arange(10, 18),
        position=np.ones(8, np.int64),
        labels=np.zeros((8, 1), np.int64),
        delay=np.full((8, 1), -1),
        popularity=np.zeros(8, np.float32),
        context_num=np.zeros((2, 0), np.float32),
        item_num=np.zeros((8, 0), np.float32),
        cat={"liked": np.array([20, 21]), "brand": np.array([20, 22, 1, 2, 20, 20, 20, 20])},
        sequences={
            "seen": records.Histories(np.array([12]), np.array([4]), np.array([9.0], np.float32), np.array([1, 0]))
        },
    )
    return _build(spec), batch_of(spec, columns)


def test_shared_table_has_one_variable_and_one_vector_per_value(shared: tuple[Extraction, Batch]) -> None:
    extraction, batch = shared
    context, items = extraction(batch)
    assert set(extraction.tables) == {"brand", "seen", "offset"} and len(extraction.table_variables) == 3
    np.testing.assert_array_equal(context[:, 0], [1.0, 1.0])  # the constant
    np.testing.assert_array_equal(context[0, 1:4], items[0, :3])  # liked brand 20, brand 20
    np.testing.assert_array_equal(items[2, :3], extraction.tables["brand"].table[transforms.UNSEEN])


def test_table_variables_list_every_table_once() -> None:
    """Two features of a unified table read it with hashes of their own; quotient and remainder are two tables."""
    spec = parse_spec(
        SHARED.replace("brand: {buckets: 6, dim: 3}", "brand: {buckets: 6, dim: 4, method: unified}").replace(
            "embedding: {buckets: 6, dim: 2}", "embedding: {buckets: 6, dim: 2, method: quotient_remainder}, encoder: transformer"
        )
    )
    extraction = _build(spec)
    assert [v.name.split("/", 1)[1] for v in extraction.table_variables] == [
        "table_brand/table:0", "table_seen/quotient:0", "table_seen/remainder:0", "table_offset/table:0",
    ]  # fmt: skip
    assert [tuple(v.shape) for v in extraction.table_variables] == [(10, 2), (6, 2), (8, 2), (8, 2)]
    ids = {"cat/liked": tf.constant([20], tf.int64), "cat/brand": tf.constant([20], tf.int64)}
    context, items = extraction({**dummy_batch(spec), **ids})
    table = extraction.tables["brand"]
    np.testing.assert_array_equal(context[0, 1:5], table(ids["cat/liked"], "liked")[0])
    np.testing.assert_array_equal(items[0, :4], table(ids["cat/brand"], "brand")[0])
    assert np.abs(context[0, 1:5] - items[0, :4]).max() > 0.1


def test_derived_category_is_rounded_shifted_and_cut_to_its_buckets(shared: tuple[Extraction, Batch]) -> None:
    """Offsets -2 .. 4 in four buckets: -2, -1, 0, 1 have one each, all above share the last; missing is EMPTY."""
    extraction, batch = shared
    table = extraction.tables["offset"].table.numpy()
    rows = [4, 5, 6, 7, 7, 7, 7, transforms.EMPTY]
    np.testing.assert_array_equal(extraction(batch)[1][:, 3:], table[rows])


def test_history_is_a_context_vector_with_the_mean_encoder(shared: tuple[Extraction, Batch]) -> None:
    extraction, batch = shared
    context = extraction(batch)[0].numpy()
    events = extraction._events["seen"]
    row = transforms.FIRST_ID + (12 - transforms.FIRST_ID) % 6
    one = extraction.tables["seen"].table[row] + events.action_table[4] + events.age_table[3]  # floor(log2(10)) = 3
    np.testing.assert_allclose(context[0, 4:], one, rtol=1e-5)
    np.testing.assert_allclose(context[1, 4:], extraction._encoders["seen"].empty, rtol=1e-6)


def test_widths_and_raw_numericals_of_every_kind() -> None:
    spec = tiny_spec()
    extraction, columns = _build(spec), random_columns(spec, 6, 2)
    batch = batch_of(spec, columns)
    context, items = extraction(batch)
    assert context.shape == (6, 1 + 2 * 4 + 3 + 2 + 2)  # constant, hour and visits, query, device, bought
    assert items.shape == (
        len(columns.item),
        4 * 4 + 3 + 2 + 2 + 2 + 2,
    )  # numericals, price_rank, item, tags, offset, recent
    assert extraction.numericals["item"].names == ("price", "rate", "touched", "to_last", "price_rank")
    raw = extraction.raw_numericals(batch, "item").numpy()
    np.testing.assert_array_equal(raw[:, :2], columns.item_num)
    assert raw.shape[1] == 5 and np.isfinite(raw[:, 2]).any()


def test_a_spec_without_item_features_cannot_rank() -> None:
    spec = parse_spec(
        "dataset: d\ntasks: {p: {events: [p], window: 1d, primary: true}}\n"
        "features: {hour: {kind: numerical, level: context, from: impression.hour}}"
    )
    with pytest.raises(ValueError, match="no item feature: all items of a list would get one score"):
        Extraction(spec)(dummy_batch(spec))


def test_columns_say_which_feature_makes_what() -> None:
    """Each column has one owner, but the constant one; what changes with a feature's input is its own and of what derives from it."""
    spec = tiny_spec()
    extraction, batch = _build(spec), batch_of(spec, random_columns(spec, 30))
    columns, before = extraction.columns(batch), extraction(batch)
    for place, (level, first) in enumerate((("context", 1), ("item", 0))):
        owned = sorted(at for where, places in columns.values() if where == level for at in places)
        assert owned == list(range(first, before[place].shape[1]))
    changes = {"cat/device": {"device"}, "ragged/tags/values": {"tags"}, "seq/bought/item": {"bought"}}
    for key, owners in changes.items():
        _check_owners(extraction, batch, {**batch, key: batch[key] + 1}, columns, owners)
    price = records.Layout.of(spec).item_num.index("price")
    numbers = batch["item_num"].numpy()
    numbers[:, price] = numbers[::-1, price]
    _check_owners(extraction, batch, {**batch, "item_num": tf.constant(numbers)}, columns, {"price", "price_rank"})


def _check_owners(extraction: Extraction, before: Batch, after: Batch, columns: dict, owners: set[str]) -> None:
    changed = set()
    for level, old, new in zip(("context", "item"), extraction(before), extraction(after), strict=True):
        moved = np.flatnonzero(np.any(old.numpy() != new.numpy(), axis=0))
        changed |= {next(n for n, (where, places) in columns.items() if where == level and at in places) for at in moved}
    assert changed == owners
