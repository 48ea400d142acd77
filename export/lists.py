"""Stored search lists for export: reading them, and writing one anew with its items in another order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvr import records
from cvr.data import read_records, split_files
from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.schema import FeatureSpec


@dataclasses.dataclass(frozen=True)
class ShownList:
    """One list as people read it: hashed ids `[n]` in stored order, and per task whether its event followed."""

    search_id: str
    item: np.ndarray
    labels: dict[str, list[int]]


@dataclasses.dataclass(frozen=True)
class ListRows:
    """Serialized lists and the spec they were built with."""

    spec: FeatureSpec
    records: list[bytes]

    def row(self, number: int) -> ShownList:
        """List `number`, decoded."""
        columns = records.parse(self.spec, tf.constant([self.records[number]]))
        labels = columns["labels"].numpy().astype(int)
        by_task = {task: labels[:, place].tolist() for place, task in enumerate(self.spec.task_names)}
        return ShownList(columns["search_id"].numpy()[0].decode(), columns["item"].numpy(), by_task)


def read_lists(folder: str, split: str, count: int, spec: FeatureSpec | None = None) -> ListRows:
    """The first `count` lists of a split.

    Raises CvrError where the folder or the split holds none, a file is cut, or the lists were built with another spec than `spec`.
    """
    manifest = load_manifest(folder)
    if spec is not None and spec.fingerprint != manifest.spec_fingerprint:
        raise CvrError(
            f"the lists in {folder} were built with feature spec {manifest.spec_fingerprint}, the model with {spec.fingerprint}; "
            "give the lists the model was trained on, or build them again with its spec"
        )
    dataset = read_records(split_files(folder, manifest, [split]))
    try:
        found = [record.numpy() for record in dataset.take(count)]
    except tf.errors.DataLossError as error:
        raise CvrError(f"a record file of split {split!r} in {folder} is damaged ({error.message}); build the lists again") from error
    return ListRows(manifest.spec(), found)


def permuted(spec: FeatureSpec, record: bytes, order: Sequence[int] | np.ndarray) -> bytes:
    """The same list with its rows in another order, each item keeping its position and features."""
    parsed = {name: value.numpy() for name, value in records.parse(spec, tf.constant([record])).items()}
    layout, rows = records.Layout.of(spec), np.asarray(order)
    item_level = ("item", "position", "labels", "delay", "popularity", "item_num")
    bags = {}
    for name in layout.context_ragged + layout.item_ragged:
        bag = records.Bag(parsed[f"ragged/{name}/values"], parsed[f"ragged/{name}/lengths"])
        bags[name] = _reorder(bag, rows) if name in layout.item_ragged else bag
    columns = records.ListColumns(
        search_id=parsed["search_id"],
        time=parsed["time"],
        lengths=parsed["list_size"],
        context_num=parsed["context_num"],
        **{name: parsed[name][rows] for name in item_level},
        cat={name: parsed[f"cat/{name}"] for name in layout.context_cat}
        | {name: parsed[f"cat/{name}"][rows] for name in layout.item_cat},
        bags=bags,
        sequences={
            name: records.Histories(*(parsed[f"seq/{name}/{part}"] for part in ("item", "action", "age", "lengths")))
            for name in layout.sequences
        },
    )
    return records.encode(spec, columns)[0]


def _reorder(bag: records.Bag, rows: np.ndarray) -> records.Bag:
    pieces = np.split(bag.values, np.cumsum(bag.lengths)[:-1])
    return records.Bag(np.concatenate([pieces[row] for row in rows]), bag.lengths[rows])
