"""Batches: hand-made columns, packing that loses and reorders nothing, seeded order, and errors that name the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr import records, transforms
from cvr.data import Budget, Shuffle, bag_room, batches, dummy_batch, pack, read_records, split_files
from cvr.errors import CvrError
from cvr.layers.hashed_embedding import HashedEmbedding
from cvr.manifest import Manifest
from cvr.schema import parse_spec
from tests.support import batch_of, random_columns, tiny_spec, write_lists

SMALL = """
dataset: small
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  hour: {kind: numerical, level: context, from: impression.hour}
  price: {kind: numerical, level: item, from: item.price}
  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 5, dim: 2}}
  brand: {kind: categorical, level: item, from: item.brand, embedding: {buckets: 5, dim: 2}}
  query: {kind: text, level: context, from: impression.query, embedding: {buckets: 5, dim: 2}}
  tags: {kind: categorical, level: item, from: item.tags, separator: ",", embedding: {buckets: 5, dim: 2}}
  seen: {kind: sequence, level: context, history: {events: [click], length: 3}, embedding: {buckets: 5, dim: 2}}
"""


def _columns() -> records.ListColumns:
    return records.ListColumns(
        search_id=np.array(["a", "b"], object),
        time=np.array([70, 80]),
        lengths=np.array([2, 1]),
        item=np.array([11, 12, 13]),
        position=np.array([1, 2, 5]),
        labels=np.array([[0], [1], [0]]),
        delay=np.array([[-1], [0], [-1]]),
        popularity=np.array([1, 2, 3], np.float32),
        context_num=np.array([[9.0], [np.nan]], np.float32),
        item_num=np.array([[0.5], [transforms.UNSEEN_VALUE], [1.5]], np.float32),
        cat={"device": np.array([21, 22]), "brand": np.array([31, 32, 33])},
        bags={
            "query": records.Bag(np.array([41, 42, 43]), np.array([1, 2])),
            "tags": records.Bag(np.array([51, 52, 53, 54]), np.array([1, 1, 2])),
        },
        sequences={
            "seen": records.Histories(
                item=np.array([61, 62]),
                action=np.array([4, 4]),
                age=np.array([1, 2], np.float32),
                lengths=np.array([0, 2]),
            )
        },
    )


EXPECTED = {
    "list_index": [0, 0, 1, 3, 3],
    "item_offset": [0, 1, 0, 0, 0],
    "item_mask": [1, 1, 1, 0, 0],
    "list_size": [2, 1, 0, 0],
    "item": [11, 12, 13, 0, 0],
    "position": [1, 2, 5, 0, 0],
    "labels": [[0], [1], [0], [0], [0]],
    "delay": [[-1], [0], [-1], [0], [0]],
    "popularity": [1, 2, 3, 0, 0],
    "context_num": [[9], [np.nan], [0], [0]],
    "item_num": [[0.5], [-np.inf], [1.5], [0], [0]],
    "cat/device": [21, 22, 0, 0],
    "cat/brand": [31, 32, 33, 0, 0],
    "ragged/query/values": [41, 42, 43],
    "ragged/query/rows": [0, 1, 1],
    "ragged/tags/values": [51, 52, 53, 54],
    "ragged/tags/rows": [0, 1, 2, 2],
    "seq/seen/item": [[0, 0, 0], [61, 62, 0], [0, 0, 0], [0, 0, 0]],
    "seq/seen/action": [[0, 0, 0], [4, 4, 0], [0, 0, 0], [0, 0, 0]],
    "seq/seen/age": [[0, 0, 0], [1, 2, 0], [0, 0, 0], [0, 0, 0]],
    "time": [70, 80, 0, 0],
    "search_id": [b"a", b"b", b"", b""],
}
INT64 = ("item", "delay", "cat/device", "cat/brand", "ragged/query/values", "seq/seen/item", "seq/seen/action", "time")
INT32 = ("list_index", "item_offset", "list_size", "position", "ragged/query/rows", "ragged/tags/rows")


def test_a_padded_batch_by_hand() -> None:
    batch = batch_of(parse_spec(SMALL), _columns(), Budget(items=5, lists=4))
    assert set(batch) == set(EXPECTED)
    for key, expected in EXPECTED.items():
        np.testing.assert_array_equal(batch[key].numpy(), expected, err_msg=key)
    assert all(batch[key].dtype == tf.int64 for key in INT64)
    assert all(batch[key].dtype == tf.int32 for key in INT32)


def test_without_a_budget_nothing_is_padded() -> None:
    batch = batch_of(parse_spec(SMALL), _columns())
    rows = {"list_size": 2, "context_num": 2, "search_id": 2, "time": 2, "cat/device": 2}
    for key, expected in EXPECTED.items():
        whole = key.startswith("ragged/")
        count = len(expected) if whole else rows.get(key, 2 if key.startswith("seq/") else 3)
        np.testing.assert_array_equal(batch[key].numpy(), expected[:count], err_msg=key)


@pytest.mark.parametrize(("count", "room"), [(0, 256), (256, 256), (257, 320), (449, 512), (513, 640), (1024, 1024), (100_001, 114_688)])
def test_room_for_bags_by_hand(count: int, room: int) -> None:
    assert int(bag_room(tf.constant(count))) == room


def test_padded_ids_are_in_no_bag() -> None:
    """Sums over bags and gradients are as without them, and padding's row takes none."""
    spec = tiny_spec()
    columns = random_columns(spec, 6)
    found = {pad: batch_of(spec, columns, Budget(60, 10, pad)) for pad in (False, True)}
    count = len(columns.bags["tags"].values)
    assert found[True]["ragged/tags/values"].shape[0] == 256 > count
    np.testing.assert_array_equal(found[True]["ragged/tags/rows"].numpy()[:count], found[False]["ragged/tags/rows"].numpy())
    layer, means, gradients = HashedEmbedding(30, 2), {}, {}
    for pad, batch in found.items():
        with tf.GradientTape() as tape:
            means[pad] = layer.mean_of_bags(batch["ragged/tags/values"], batch["ragged/tags/rows"], 60)
            loss = tf.reduce_sum(means[pad] ** 2)
        gradients[pad] = tf.convert_to_tensor(tape.gradient(loss, layer.table)).numpy()
    np.testing.assert_array_equal(means[True].numpy(), means[False].numpy())
    np.testing.assert_allclose(gradients[True], gradients[False], atol=1e-7)
    np.testing.assert_array_equal(gradients[True][transforms.PAD], [0.0, 0.0])


def test_dummy_batch_is_one_unseen_item() -> None:
    batch = dummy_batch(tiny_spec())
    assert batch["list_size"].numpy().tolist() == [1]
    assert np.isneginf(batch["item_num"].numpy()).all()
    assert batch["cat/device"].numpy().tolist() == [transforms.UNSEEN]


# Packing -----------------------------------------------------------------------------------------------------------------

TINY = parse_spec(
    "dataset: pack\ntasks: {buy: {events: [buy], window: 1d, primary: true}}\n"
    "features: {price: {kind: numerical, level: item, from: item.price}}"
)


def _records(lengths: list[int]) -> list[bytes]:
    items, rows = sum(lengths), len(lengths)
    columns = records.ListColumns(
        search_id=np.array([f"q{i}" for i in range(rows)], object),
        time=np.arange(rows),
        lengths=np.array(lengths, np.int64),
        item=np.arange(items) + 4,
        position=np.ones(items, np.int64),
        labels=np.zeros((items, 1), np.int64),
        delay=np.full((items, 1), -1),
        popularity=np.zeros(items, np.float32),
        context_num=np.zeros((rows, 0), np.float32),
        item_num=np.zeros((items, 1), np.float32),
    )
    return records.encode(TINY, columns)


def _groups(lengths: list[int], budget: Budget) -> list[list[int]]:
    """Numbers of the records in each packed group."""
    serialized = _records(lengths)
    number = {record: i for i, record in enumerate(serialized)}
    dataset = tf.data.Dataset.from_tensor_slices(tf.constant(serialized, tf.string, [len(serialized)]))
    return [[number[record] for record in group.numpy().tolist()] for group in pack(dataset, budget)]


def _greedy(lengths: list[int], budget: Budget) -> list[list[int]]:
    """Plain reference: a list goes into the open group while items and lists fit; one list stays free for padding."""
    groups: list[list[int]] = []
    for i, length in enumerate(lengths):
        open_group = groups[-1] if groups else []
        fits = sum(lengths[k] for k in open_group) + length <= budget.items and len(open_group) < budget.lists - 1
        if groups and fits:
            open_group.append(i)
        else:
            groups.append([i])
    return groups


def test_packing_by_hand() -> None:
    assert _groups([3, 2, 4, 1, 1, 1, 5], Budget(items=5, lists=4)) == [[0, 1], [2, 3], [4, 5], [6]]
    assert _groups([1, 1, 1, 1, 1], Budget(items=9, lists=3)) == [[0, 1], [2, 3], [4]]
    assert _groups([], Budget(items=9, lists=3)) == []


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 7), max_size=20), st.integers(7, 20), st.integers(2, 6))
def test_packing_loses_and_reorders_nothing(lengths: list[int], items: int, lists: int) -> None:
    budget = Budget(items, lists)
    assert _groups(lengths, budget) == _greedy(lengths, budget)


def test_packing_across_chunks() -> None:
    """More records than one call of the packing function sees: 256."""
    lengths = np.random.default_rng(0).integers(1, 9, 700).tolist()
    assert _groups(lengths, Budget(40, 12)) == _greedy(lengths, Budget(40, 12))


def test_a_group_for_every_list() -> None:
    """The most groups that a call can cut: as many as lists wait."""
    assert _groups([5] * 300, Budget(items=5, lists=3)) == [[number] for number in range(300)]


def test_a_list_longer_than_the_budget_is_an_error() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="longer than --batch_items"):
        _groups([2, 9], Budget(items=8, lists=4))


# Files -------------------------------------------------------------------------------------------------------------------

Folder = tuple[Path, Manifest, list[records.ListColumns]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("lists")
    parts = [random_columns(tiny_spec(), 30, seed) for seed in (1, 2, 3)]
    return path, write_lists(path, {"train": parts}), parts


@pytest.fixture(scope="module")
def in_order(folder: Folder) -> list[dict[str, np.ndarray]]:
    """All batches of one pass without a shuffle."""
    path, manifest, _ = folder
    files, budget = split_files(path, manifest, ["train"]), Budget.for_manifest(manifest, ["train"], 24)
    return [{key: value.numpy() for key, value in batch.items()} for batch in batches(tiny_spec(), files, budget)]


def _shuffled(folder: Folder, seed: int, path: Path | None = None) -> list[list[bytes]]:
    """Packed groups of records of one shuffled pass."""
    path, manifest = path or folder[0], folder[1]
    shuffle = Shuffle(seed, buffer=40)
    budget = Budget.for_manifest(manifest, ["train"], 24)
    dataset = pack(read_records(split_files(path, manifest, ["train"]), shuffle), budget)
    return [group.numpy().tolist() for group in dataset]


def test_batches_hold_every_item_in_order(folder: Folder, in_order: list[dict[str, np.ndarray]]) -> None:
    parts = folder[2]
    searches = [search for batch in in_order for search in batch["search_id"] if search]
    assert searches == [s.encode() for part in parts for s in part.search_id]
    for key in ("item", "position", "labels", "delay", "item_num"):
        real = np.concatenate([batch[key][batch["item_mask"] > 0] for batch in in_order])
        np.testing.assert_array_equal(real, np.concatenate([getattr(part, key) for part in parts]), err_msg=key)
    assert {batch["item"].shape for batch in in_order} == {(24,)}
    assert all(batch["list_size"][-1] == 0 for batch in in_order)
    last = len(in_order[0]["list_size"]) - 1
    assert all((batch["list_index"][batch["item_mask"] == 0] == last).all() for batch in in_order)


def test_same_seed_same_batches_another_seed_others(folder: Folder) -> None:
    first = _shuffled(folder, 5)
    tf.random.uniform([3])  # what was drawn before has no influence
    assert _shuffled(folder, 5) == first
    other = _shuffled(folder, 6)
    stored = [record for part in folder[2] for record in records.encode(tiny_spec(), part)]
    for groups in (first, other):
        assert sorted(record for group in groups for record in group) == sorted(stored)
    assert first != other


def test_the_order_is_the_same_on_any_machine(folder: Folder, tmp_path: Path) -> None:
    """It depends on the seeds alone, not on where files lie, threads or speed: here is the order of another machine."""
    shutil.copytree(folder[0], tmp_path / "elsewhere")
    tf.random.set_seed(0)  # as `build_ranker` does
    groups = _shuffled(folder, 5, tmp_path / "elsewhere")
    number = {record: i for i, record in enumerate(record for part in folder[2] for record in records.encode(tiny_spec(), part))}
    assert [number[record] for group in groups for record in group][:12] == [85, 10, 69, 60, 72, 82, 89, 66, 77, 0, 88, 13]


def test_skipped_batches_change_nothing_in_the_others(folder: Folder) -> None:
    path, manifest, _ = folder
    files, budget = split_files(path, manifest, ["train"]), Budget.for_manifest(manifest, ["train"], 24)
    whole, rest = (list(batches(tiny_spec(), files, budget, Shuffle(3, buffer=40), skip=skip)) for skip in (0, 3))
    assert len(rest) == len(whole) - 3 > 0
    for expected, found in zip(whole[3:], rest, strict=True):
        assert expected.keys() == found.keys()
        for key, values in expected.items():
            np.testing.assert_array_equal(found[key], values, err_msg=key)


def test_budget_for_a_manifest(folder: Folder) -> None:
    _, manifest, parts = folder
    mean = sum(int(part.lengths.sum()) for part in parts) / 90
    assert Budget.for_manifest(manifest, ["train"], 60) == Budget(60, int(1.5 * 60 / mean) + 2)
    longest = manifest.split("train").max_list_size
    with pytest.raises(
        CvrError, match=rf"--batch_items={longest - 1}.*longest list \({longest} items\).*at least {longest}"
    ):
        Budget.for_manifest(manifest, ["train"], longest - 1)
    with pytest.raises(CvrError, match="split 'test' holds no list"):
        Budget.for_manifest(manifest, ["test"], 60)


def test_missing_and_cut_files_are_named(tmp_path: Path) -> None:
    manifest = write_lists(tmp_path, {"train": [random_columns(tiny_spec(), 3)]})
    file = tmp_path / manifest.split("train").files[0].path
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    with pytest.raises(CvrError, match=rf"{file.name} has {len(content) - 7} bytes, its manifest says {len(content)}"):
        split_files(tmp_path, manifest, ["train"])
    file.unlink()
    with pytest.raises(CvrError, match=rf"{file.name} is in the manifest but not on disk"):
        split_files(tmp_path, manifest, ["train"])


def test_a_file_damaged_inside_is_an_error(tmp_path: Path) -> None:
    manifest = write_lists(tmp_path, {"train": [random_columns(tiny_spec(), 3)]})
    file = tmp_path / manifest.split("train").files[0].path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(tf.errors.DataLossError):
        list(read_records(split_files(tmp_path, manifest, ["train"])))


def test_records_of_another_spec_are_an_error(folder: Folder) -> None:
    path, manifest, _ = folder
    files = split_files(path, manifest, ["train"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="built with another feature spec"):
        list(batches(TINY, files, Budget(24, 20)))


def test_compressions_do_not_mix() -> None:
    with pytest.raises(CvrError, match="one compression"):
        read_records(["a.tfrecord", "b.tfrecord.gz"])
