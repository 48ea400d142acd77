"""Values of every kind of feature put elsewhere, against the batch's own values row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvr.data import Batch
from cvr.records import Bag, Layout
from cvr.schema import Feature, FeatureSpec
from tests.support import random_columns, tiny_spec, write_lists
from tools.permutation.columns import take
from tools.permutation.sample import Draw, Sample, draw_sample
from tools.permutation.shuffles import KINDS, make_shuffle, moved


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder, spec = tmp_path_factory.mktemp("columns"), tiny_spec()
    write_lists(folder, {"test": [random_columns(spec, 25), random_columns(spec, 25, seed=1)]})
    return draw_sample(spec, Draw(str(folder), "test", "click", 10_000, batch_items=40))


def _rows(spec: FeatureSpec, feature: Feature, batch: Batch, count: int) -> list[Any]:
    """A feature's value of each real list or item, as plain Python."""
    name, layout = feature.name, Layout.of(spec)
    if feature.kind == "numerical":
        names = layout.context_num if feature.level == "context" else layout.item_num
        return [str(value) for value in batch[f"{feature.level}_num"].numpy()[:count, names.index(name)]]
    if feature.kind == "sequence":
        return [tuple(tuple(batch[f"seq/{name}/{part}"].numpy()[row]) for part in ("item", "action", "age")) for row in range(count)]
    if feature.ragged:
        ids, rows = (batch[f"ragged/{name}/{part}"].numpy() for part in ("values", "rows"))
        return [tuple(ids[rows == row]) for row in range(count)]
    return list(batch[f"cat/{name}"].numpy()[:count])


def test_a_replaced_feature_has_the_other_rows_values_and_nothing_else_changes(sample: Sample) -> None:
    spec = sample.spec
    assert len(sample.batches) > 2
    shuffle = make_shuffle("across", sample.list_of_item, (1,))
    for feature in spec.select(stored=True):
        before, after = [], []
        for batch, extent in zip(sample.batches, sample.extents, strict=True):
            own = extent.of(feature.level)
            changed = sample.columns.replace(batch, feature.name, shuffle.source(feature.level)[own])
            before += _rows(spec, feature, batch, own.stop - own.start)
            after += _rows(spec, feature, {**batch, **changed}, own.stop - own.start)
            for key, value in changed.items():
                if feature.kind == "numerical":
                    others = [place for place in range(value.shape[1]) if key not in _keys_of(spec, feature, place)]
                    np.testing.assert_array_equal(value.numpy()[:, others], batch[key].numpy()[:, others])
                if not feature.ragged:
                    np.testing.assert_array_equal(value.numpy()[own.stop - own.start :], batch[key].numpy()[own.stop - own.start :])
        assert after == [before[row] for row in shuffle.source(feature.level)], feature.name
        assert after != before


def _keys_of(spec: FeatureSpec, feature: Feature, place: int) -> list[str]:
    names = Layout.of(spec).context_num if feature.level == "context" else Layout.of(spec).item_num
    return [f"{feature.level}_num"] if names[place] == feature.name else []


def test_the_sample_has_the_lists_with_a_positive(sample: Sample) -> None:
    columns = [random_columns(sample.spec, 25, seed) for seed in (0, 1)]
    lengths, labels = (np.concatenate([getattr(part, name) for part in columns]) for name in ("lengths", "labels"))
    positive = np.add.reduceat(labels[:, 1], np.cumsum(lengths) - lengths) > 0
    np.testing.assert_array_equal(sample.lengths, lengths[positive])
    np.testing.assert_array_equal(sample.labels, labels[np.repeat(positive, lengths), 1])


def test_bags_taken_by_hand() -> None:
    bag = take(Bag(np.array([1, 2, 3, 4, 5, 6]), np.array([2, 0, 3, 1])), np.array([3, 0, 1, 0]))
    assert bag.values.tolist() == [6, 1, 2, 1, 2] and bag.lengths.tolist() == [1, 2, 0, 2]


def test_shuffles_are_permutations_of_their_kind(sample: Sample) -> None:
    lists = sample.list_of_item
    within, across = (make_shuffle(kind, lists, (4, 2)) for kind in KINDS)
    for shuffle in (within, across):
        np.testing.assert_array_equal(np.sort(shuffle.items), np.arange(len(lists)))
        np.testing.assert_array_equal(np.sort(shuffle.lists), np.arange(len(sample.lengths)))
    np.testing.assert_array_equal(lists[within.items], lists)
    assert np.any(within.items != np.arange(len(lists))) and np.any(lists[across.items] != lists)
    assert moved(sample.spec, ["hour", "price", "recent", "touched"], "within") == {"price", "touched"}


def test_within_a_list_every_order_is_as_likely() -> None:
    """4,800 lists of three items: each of the 6 orders 800 times, with a standard deviation of 26."""
    items = make_shuffle("within", np.repeat(np.arange(4800), 3), (0,)).items.reshape(-1, 3)
    counts = np.unique(items - items.min(axis=1, keepdims=True), axis=0, return_counts=True)[1]
    assert len(counts) == 6 and np.all(np.abs(counts - 800) < 100)


def test_a_split_without_a_positive_names_flag_and_task(sample: Sample, tmp_path: Path) -> None:
    columns = random_columns(sample.spec, 5)
    columns.labels[:], columns.delay[:] = 0, -1
    write_lists(tmp_path, {"test": [columns]})
    with pytest.raises(ValueError, match="--split=test: 0 of 5 lists have a positive of task click"):
        draw_sample(sample.spec, Draw(str(tmp_path), "test", "click", 10))
    with pytest.raises(ValueError, match="--task=cart: the lists have no such task; there are purchase, click"):
        draw_sample(sample.spec, Draw(str(tmp_path), "test", "cart", 10))
