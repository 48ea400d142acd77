"""A value, nothing, a feature that did not exist and a value outside the vocabulary are four inputs, in every kind of feature."""

from __future__ import annotations

import numpy as np
import pytest

from cvr import records, transforms
from cvr.data import dummy_batch
from cvr.extraction import Extraction
from cvr.schema import parse_spec
from tests.support import batch_of, random_columns

HEAD = """
dataset: states
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  other: {kind: numerical, level: item, from: impression.other}
"""
PAST = "  past: {kind: sequence, level: context, history: {events: [click], length: 3}, embedding: {buckets: 50, dim: 4}}\n"
TABLES = {
    "hash": "{buckets: 50, dim: 4}",
    "quotient_remainder": "{buckets: 50, dim: 4, method: quotient_remainder}",
    "multi_hash": "{buckets: 50, dim: 4, method: multi_hash}",
    "unified": "{buckets: 50, dim: 4, method: unified}",
    "shrunk": "{buckets: 50, dim: 4, shrinkage: 3}",
}
IDS = np.array([int(transforms.hash_strings(["red"])[0]), transforms.EMPTY, transforms.UNSEEN, 77])


def _inputs(text: str, **changes: object) -> np.ndarray:
    """All inputs of four lists of one item, which differ in one feature."""
    spec = parse_spec(HEAD + text)
    extraction = Extraction(spec)
    extraction(dummy_batch(spec))
    for table in extraction.shrunk_tables.values():
        table.set_counts(np.full(54, 5))
    source = np.random.default_rng(0)
    for variable in extraction.trainable_variables:
        variable.assign(source.normal(0, 0.6, variable.shape))
    columns = random_columns(spec, 4, longest=1)
    columns.item_num[:, 0] = 0.0
    columns.item[:] = 9
    for part, value in changes.items():
        getattr(columns, part)["it"] = value
    context, items = extraction(batch_of(spec, columns))
    return np.concatenate([context, items], axis=1)


def _assert_apart(rows: np.ndarray) -> None:
    for i in range(len(rows)):
        for j in range(i):
            assert np.abs(rows[i] - rows[j]).max() > 1e-3, (i, j)


def _history(items: list[list[int]]) -> records.Histories:
    flat = np.array([i for row in items for i in row], np.int64)
    actions = np.where(flat < transforms.FIRST_ID, flat, transforms.FIRST_ID)
    return records.Histories(flat, actions, np.zeros(len(flat), np.float32), np.array([len(row) for row in items]))


@pytest.mark.parametrize("transform", ["zscore", "log1p", "zlog", "identity"])
@pytest.mark.parametrize("level", ["context", "item"])
def test_numerical(transform: str, level: str) -> None:
    """Zero, missing, unseen and one."""
    spec = parse_spec(
        HEAD.split("  other")[0]
        + f"  it: {{kind: numerical, level: {level}, from: impression.it, transforms: [{transform}]}}\n"
        + "  price: {kind: numerical, level: item, from: impression.price}\n"
    )
    extraction, columns = Extraction(spec), random_columns(spec, 4, longest=1)
    columns.item_num[:] = 0.0
    (columns.context_num if level == "context" else columns.item_num)[:, 0] = [0.0, np.nan, -np.inf, 1.0]
    _assert_apart(np.concatenate(extraction(batch_of(spec, columns)), axis=1))


@pytest.mark.parametrize("table", sorted(TABLES))
def test_categorical_text_and_bags(table: str) -> None:
    one = np.ones(4, np.int64)
    ngrams = np.where(IDS < transforms.FIRST_ID, IDS, IDS % 2**31)
    for kind, changes in (
        ("categorical, from: impression.it", {"cat": IDS}),
        ("text, from: impression.it", {"bags": records.Bag(ngrams, one)}),
        ('categorical, from: impression.it, separator: "|"', {"bags": records.Bag(IDS, one)}),
    ):
        _assert_apart(_inputs(f"  it: {{kind: {kind}, level: item, embedding: {TABLES[table]}}}\n", **changes))


def test_vocabulary() -> None:
    """A listed value, nothing, unseen and a value that is not listed; two such values are one input."""
    text = "  it: {kind: categorical, level: item, from: impression.it, vocabulary: [red], embedding: {buckets: 50, dim: 4}}\n"
    _assert_apart(_inputs(text, cat=IDS))
    rows = _inputs(text, cat=np.array([77, 78, 79, 80]))
    np.testing.assert_array_equal(rows[1:], rows[:1].repeat(3, axis=0))


@pytest.mark.parametrize(
    ("encoder", "table"),
    [*((name, "hash") for name in ("mean", "target_attention", "transformer", "gru")), *(("mean", name) for name in sorted(TABLES))],
)
def test_histories(encoder: str, table: str) -> None:
    """An event, none, an unseen history, another event."""
    history = "history: {events: [click], length: 3}"
    text = f"  it: {{kind: sequence, level: context, {history}, embedding: {TABLES[table]}, encoder: {encoder}}}\n"
    _assert_apart(_inputs(text, sequences=_history([[20], [], [transforms.UNSEEN], [21]])))


DERIVED = {"history_count": [1, 0, 0, 2], "history_length": [1, 0, 0, 2], "history_distinct": [1, 0, 0, 1], "history_is_last": [1, 0, 0, 1]}
SEEN = _history([[9], [], [transforms.UNSEEN], [9, 9]])
"""Events on the item itself, none, an unseen history, two events on the item."""


@pytest.mark.parametrize("op", DERIVED)
def test_derived_of_an_empty_history_is_0_and_of_an_unseen_one_missing(op: str) -> None:
    """Columns: two inputs of `other`, the value, then missing and unseen of both; the history is a context vector before them."""
    text = f"  derived: {{kind: numerical, level: item, derive: {{op: {op}, history: it}}, transforms: [identity]}}\n"
    items = _inputs(text + PAST.replace("past", "it"), sequences=SEEN)[:, -7:]
    assert items[:, 2].tolist() == DERIVED[op]
    assert items[:, 4].tolist() == [0, 0, 1, 0] and items[:, 6].tolist() == [0, 0, 0, 0]


def test_derived_category_has_the_empty_row_where_it_has_no_value() -> None:
    text = "  derived: {kind: categorical, level: item, derive: {op: offset_to_last, history: it}, embedding: {buckets: 8, dim: 2}}\n"
    rows = _inputs(text + PAST.replace("past", "it"), sequences=SEEN)[:, -2:]
    np.testing.assert_array_equal(rows[[0, 1]], rows[[3, 2]])
    assert np.abs(rows[0] - rows[1]).max() > 1e-3
