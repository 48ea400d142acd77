"""Format elwc: TF-Ranking's own dataset builder, protobuf and the decoder read back what was encoded, for every key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import input_pb2

import cvr.compat  # noqa: F401 - before tensorflow_ranking
from cvr import elwc, records, transforms
from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.schema import FeatureSpec, parse_spec
from pipelines.job import build
from pipelines.record_files import read_records
from pipelines.write import write_records
from tests.pipelines import logs
from tests.support import SPEC, random_columns, tiny_spec


def assert_same(found: records.ListColumns, expected: records.ListColumns) -> None:
    for name in ("time", "lengths", "item", "position", "labels", "delay", "popularity", "context_num", "item_num"):
        got, wanted = getattr(found, name), getattr(expected, name)
        assert got.dtype == wanted.dtype, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)
    assert [bytes(s) for s in found.search_id] == [s.encode() if isinstance(s, str) else s for s in expected.search_id]
    assert found.cat.keys() == expected.cat.keys()
    for name in expected.cat:
        np.testing.assert_array_equal(found.cat[name], expected.cat[name], err_msg=name)
    for kind in ("bags", "sequences"):
        assert getattr(found, kind).keys() == getattr(expected, kind).keys()
        for name, wanted in getattr(expected, kind).items():
            for part, values in vars(wanted).items():
                np.testing.assert_array_equal(getattr(getattr(found, kind)[name], part), values, err_msg=f"{name} {part}")


def read_with_tf_ranking(spec: FeatureSpec, files: Sequence[str], batch: int = 7) -> records.ListColumns:
    """The lists of elwc files through `tfr.data.build_ranking_dataset`, its padding taken off."""
    import tensorflow_ranking as tfr

    context, example = elwc.elwc_specs(spec)
    dataset = tfr.data.build_ranking_dataset(
        list(files), tfr.data.ELWC, batch, context, example, size_feature_name="size", shuffle=False, num_epochs=1,
        reader_args=["GZIP"], reader_num_threads=1,
    )  # fmt: skip
    parts: dict[str, list[np.ndarray]] = {}
    for features in dataset:
        sizes = features.pop("size").numpy()
        shown = np.arange(sizes.max()) < sizes[:, None]
        parts.setdefault("size", []).append(sizes)
        for key, value in features.items():
            if isinstance(value, tf.RaggedTensor):
                lengths = value.row_lengths(axis=value.shape.rank - 1)
                lengths = getattr(lengths, "flat_values", lengths).numpy()
                parts.setdefault(key, []).append(value.flat_values.numpy())
                parts.setdefault(f"{key}/n", []).append(lengths[shown.ravel()] if key in example else lengths)
            else:
                parts.setdefault(key, []).append(value.numpy()[shown, 0] if key in example else value.numpy()[:, 0])
    flat = {key: np.concatenate(values) for key, values in parts.items()}
    return _columns(records.Layout.of(spec), flat)


def _columns(layout: records.Layout, flat: dict[str, np.ndarray]) -> records.ListColumns:
    bags, parts = layout.context_ragged + layout.item_ragged, ("item", "action", "age", "item/n")
    return records.ListColumns(
        search_id=flat["list/search_id"],
        time=flat["list/time"],
        lengths=flat["size"].astype(np.int64),
        item=flat["item/id"],
        position=flat["item/position"],
        labels=np.stack([flat[task] for task in layout.tasks], 1).astype(np.int64),
        delay=np.stack([flat[f"{task}/delay"] for task in layout.tasks], 1),
        popularity=flat["item/popularity"],
        context_num=np.stack([flat[name] for name in layout.context_num], 1),
        item_num=np.stack([flat[name] for name in layout.item_num], 1),
        cat={name: flat[name] for name in layout.context_cat + layout.item_cat},
        bags={name: records.Bag(flat[name], flat[f"{name}/n"]) for name in bags},
        sequences={name: records.Histories(*(flat[f"{name}/{part}"] for part in parts)) for name in layout.sequences},
    )


@pytest.mark.parametrize(("lists", "seed"), [(1, 0), (40, 1)])
def test_decoding_gives_back_what_was_encoded(lists: int, seed: int) -> None:
    spec = tiny_spec()
    columns = random_columns(spec, lists, seed)
    encoded = elwc.encode_elwc(spec, columns)
    decoded = elwc.decode_elwc(spec, encoded)
    assert_same(decoded, columns)
    assert_same(decoded, records.decode(spec, records.encode(spec, columns)))
    assert elwc.encode_elwc(spec, decoded) == encoded
    assert elwc.decode_elwc(spec, encoded[:0]).lengths.tolist() == []


def test_tf_ranking_reads_the_same(tmp_path: Path) -> None:
    spec = tiny_spec()
    columns = random_columns(spec, 30, 2)
    path = str(tmp_path / "part.tfrecord.gz")
    write_records(path, elwc.encode_elwc(spec, columns))
    assert_same(read_with_tf_ranking(spec, [path]), records.decode(spec, records.encode(spec, columns)))


def test_protobuf_sees_each_key_with_its_value() -> None:
    spec = tiny_spec()
    columns = random_columns(spec, 5, 3)
    columns.item_num[0] = [np.nan, transforms.UNSEEN_VALUE]
    columns.cat["item"][0] = transforms.UNSEEN
    message = input_pb2.ExampleListWithContext.FromString(elwc.encode_elwc(spec, columns)[0])
    assert len(message.examples) == columns.lengths[0]
    context, item = message.context.features.feature, message.examples[0].features.feature
    assert set(context) == {
        "list/spec", "list/search_id", "list/time", "query", "device", "hour",
        *(f"{name}/{part}" for name in ("recent", "bought") for part in ("item", "action", "age")),
    }  # fmt: skip
    assert set(item) == {
        "item/id", "item/position", "item/popularity", "purchase", "click", "purchase/delay", "click/delay",
        "item", "price", "rate", "tags",
    }  # fmt: skip
    assert context["list/search_id"].bytes_list.value[:] == [b"3-0"] and context["list/time"].int64_list.value[:] == [columns.time[0]]
    assert np.isnan(item["price"].float_list.value[0]) and item["rate"].float_list.value[:] == [-np.inf]
    assert item["item"].int64_list.value[:] == [transforms.UNSEEN]
    assert item["purchase"].float_list.value[:] == [columns.labels[0, 0]]
    assert item["click/delay"].int64_list.value[:] == [columns.delay[0, 1]]
    assert item["tags"].int64_list.value[:] == columns.bags["tags"].values[: columns.bags["tags"].lengths[0]].tolist()


def test_a_padding_item_is_none(tmp_path: Path) -> None:
    """TF-Ranking takes a label below 0 for padding; no other value of a padding item may look like a value."""
    import tensorflow_ranking as tfr

    spec = tiny_spec()
    encoded = elwc.encode_elwc(spec, random_columns(spec, 1, 0, longest=1))
    context, example = elwc.elwc_specs(spec)
    padded = tfr.data.parse_from_example_list(encoded, 2, context, example)
    assert [float(padded[task][0, 1, 0]) for task in ("purchase", "click")] == [-1, -1]
    assert int(padded["item"][0, 1, 0]) == transforms.PAD and padded["tags"][0, 1].shape == [0]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [("  click: {events", "  price: {events", "price"), ("  click: {events", "  list/time: {events", "list/time")],
)
def test_a_key_that_would_stand_for_two_is_refused(old: str, new: str, key: str) -> None:
    spec = parse_spec(SPEC.replace(old, new))
    with pytest.raises(CvrError, match=f"'{key}' would stand for two"):
        elwc.encode_elwc(spec, random_columns(spec, 1))


def test_a_key_of_the_greatest_length_and_one_that_is_longer() -> None:
    longest = "p" * elwc.LONGEST_KEY
    spec = parse_spec(SPEC.replace("price", longest))
    columns = random_columns(spec, 3)
    assert_same(elwc.decode_elwc(spec, elwc.encode_elwc(spec, columns)), columns)
    with pytest.raises(CvrError, match="at most 100 bytes, and 'ppp"):
        elwc.check_keys(parse_spec(SPEC.replace("price", longest + "p")))


def test_foreign_records_are_refused() -> None:
    spec = tiny_spec()
    columns = random_columns(spec, 2)
    other = parse_spec(SPEC.replace("window: 1h", "window: 2h"))
    with pytest.raises(ValueError, match="another feature spec"):
        elwc.decode_elwc(other, elwc.encode_elwc(spec, columns))
    with pytest.raises(ValueError, match="record 0 holds no context"):
        elwc.decode_elwc(spec, records.encode(spec, columns))
    with pytest.raises(ValueError):
        elwc.decode_elwc(spec, [b"\xff\xff"])
    message = input_pb2.ExampleListWithContext.FromString(elwc.encode_elwc(spec, columns)[0])
    del message.examples[0].features.feature["price"]
    with pytest.raises(ValueError, match="no single 'price'"):
        elwc.decode_elwc(spec, [message.SerializeToString()])


def test_a_build_holds_the_same_lists_in_both_formats(both_formats: Path) -> None:
    manifests = [load_manifest(both_formats / name, formats=(name,)) for name in ("lists", "elwc")]
    spec = manifests[0].spec()
    for split in ("train", "test"):
        plain, ours = (manifest.split(split) for manifest in manifests)
        assert (ours.lists, ours.items, ours.labels) == (plain.lists, plain.items, plain.labels)
        expected = [records.decode(spec, read_records(str(both_formats / "lists" / file.path))) for file in plain.files]
        paths = [str(both_formats / "elwc" / file.path) for file in ours.files]
        for path, columns in zip(paths, expected, strict=True):
            assert_same(elwc.decode_elwc(spec, read_records(path)), columns)
            assert_same(read_with_tf_ranking(spec, [path]), columns)


def test_a_build_refuses_a_spec_that_the_format_cannot_hold(tmp_path: Path) -> None:
    log = logs.write_log(tmp_path / "log", *logs.small_log())
    spec = logs.SPEC.replace("  click: {events", "  price: {events")
    with pytest.raises(CvrError, match="'price' would stand for two"):
        build(logs.settings(log, tmp_path / "lists", spec, record_format="elwc"))
    assert not (tmp_path / "lists").exists()


def test_readers_of_lists_refuse_the_format(both_formats: Path) -> None:
    with pytest.raises(CvrError, match="have format elwc, and this command reads lists; build them with --format=lists"):
        load_manifest(both_formats / "elwc")
