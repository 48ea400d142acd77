"""How much of the batches of `cvr.data` is padding."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cvr import records
from cvr.data import Budget, pack
from cvr.schema import parse_spec

_SPEC = parse_spec(
    "dataset: lengths\ntasks: {click: {events: [click], window: 1d, primary: true}}\n"
    "features: {price: {kind: numerical, level: item, from: item.price}}\n"
)


@dataclasses.dataclass(frozen=True)
class Waste:
    """Share of padded items in the batches of a draw of list lengths; `lists` is the mean number of lists in a batch."""

    draw: str
    batch_items: int
    batches: int
    lists: float
    padded: float


def short_records(lengths: np.ndarray) -> list[bytes]:
    """Records of lists of these lengths with one numerical."""
    rows, items = len(lengths), int(lengths.sum())
    zeros = np.zeros(items, np.int64)
    columns = records.ListColumns(
        search_id=np.full(rows, "", object),
        time=np.zeros(rows, np.int64),
        lengths=lengths,
        item=zeros,
        position=zeros,
        labels=zeros[:, None],
        delay=zeros[:, None],
        popularity=np.zeros(items, np.float32),
        context_num=np.zeros((rows, 0), np.float32),
        item_num=np.zeros((items, 1), np.float32),
    )
    return records.encode(_SPEC, columns)


def waste(draw: str, lengths: np.ndarray, batch_items: int) -> Waste:
    """1 - items / (batches * batch_items) over all batches of the lists but the last one, which ends with the data."""
    budget = Budget.for_mean(batch_items, float(lengths.mean()))
    groups = pack(tf.data.Dataset.from_tensor_slices(short_records(lengths)), budget)
    lists = [len(group) for group in groups][:-1]
    used = int(lengths[: sum(lists)].sum())
    return Waste(draw, batch_items, len(lists), float(np.mean(lists)), 1 - used / (len(lists) * batch_items))


def wastes(draws: dict[str, np.ndarray], sizes: Sequence[int]) -> list[Waste]:
    """For each draw and size of a batch."""
    return [waste(draw, lengths, size) for draw, lengths in draws.items() for size in sizes]
