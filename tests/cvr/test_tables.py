"""Tables of lists: typed values and their states by hand and from random columns, in both shapes, and from published folders."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cvr import tables, transforms
from cvr.metrics import rank_metrics, tie_breaker
from cvr.records import Bag, Histories, Layout, ListColumns
from cvr.schema import parse_spec
from cvr.stored import Selection, StoredLists
from tests.support import FIRST_TIME, random_columns, tiny_spec

SMALL = """
dataset: small
tasks: {buy: {events: [buy], window: 1d, primary: true}}
features:
  hour: {kind: numerical, level: context, from: impression.hour}
  price: {kind: numerical, level: item, from: item.price}
  device: {kind: categorical, level: item, from: impression.device, vocabulary: [phone, tablet], embedding: {buckets: 2, dim: 2}}
  tags: {kind: categorical, level: item, from: item.tags, separator: "|", embedding: {buckets: 30, dim: 2}}
  recent: {kind: sequence, level: context, history: {events: [look, buy], length: 4}, embedding: {buckets: 20, dim: 2}}
"""
NAN, UNSEEN = np.nan, transforms.UNSEEN_VALUE


def _small_columns() -> ListColumns:
    """Lists of two, one and one items."""
    tablet, fridge = transforms.hash_strings(["tablet", "fridge"]).numpy()
    recent = Histories(np.array([21, 20, 1]), np.array([5, 4, 1]), np.array([1.5, 60, 0], np.float32), np.array([2, 0, 1]))
    return ListColumns(
        search_id=np.array(["a", "b", "c"], object),
        time=np.array([FIRST_TIME, FIRST_TIME + 1, FIRST_TIME + 2]),
        lengths=np.array([2, 1, 1]),
        item=np.array([2**62 + 1, 11, 12, 13]),
        position=np.array([1, 2, 1, 1]),
        labels=np.array([[1], [0], [0], [0]]),
        delay=np.array([[1500], [-1], [-1], [-1]]),
        popularity=np.array([3, 0, 0, 0], np.float32),
        context_num=np.array([[8], [NAN], [UNSEEN]], np.float32),
        item_num=np.array([[0], [NAN], [UNSEEN], [2.5]], np.float32),
        cat={"device": np.array([tablet, fridge, transforms.UNSEEN, transforms.EMPTY])},
        bags={"tags": Bag(np.array([7, 8, transforms.EMPTY, transforms.UNSEEN, 9]), np.array([2, 1, 1, 1]))},
        sequences={"recent": recent},
    )


ITEM_ROWS = {
    "_search_id": ["a", "a", "b", "c"],
    "_item": [2**62 + 1, 11, 12, 13],
    "_position": [1, 2, 1, 1],
    "_label_buy": [1, 0, 0, 0],
    "_delay_buy": [datetime.timedelta(milliseconds=1500), None, None, None],
    "_popularity": [3.0, 0.0, 0.0, 0.0],
    "hour": [8.0, 8.0, None, None],
    "_state_hour": ["present", "present", "missing", "unseen"],
    "price": [0.0, None, None, 2.5],
    "_state_price": ["present", "missing", "unseen", "present"],
    "_state_device": ["present", "unknown", "unseen", "missing"],
    "_value_device": ["tablet", None, None, None],
    "tags": [[7, 8], [2], [1], [9]],
    "_state_tags": ["present", "missing", "unseen", "present"],
    "recent": [[{"item": 21, "action": "buy", "age": 1.5}, {"item": 20, "action": "look", "age": 60.0}]] * 2 + [[], None],
    "_state_recent": ["present", "present", "missing", "unseen"],
}


def test_items_by_hand() -> None:
    table = tables.to_arrow(parse_spec(SMALL), _small_columns())
    for name, values in ITEM_ROWS.items():
        assert table.column(name).to_pylist() == values, name
    assert set(table.column_names) == {*ITEM_ROWS, "_time", "device"}
    utc = datetime.timezone.utc
    assert table.column("_time").to_pylist()[2] == datetime.datetime(2026, 1, 1, 0, 0, 0, 1000, utc)
    assert table.column("device").to_pylist()[2:] == [transforms.UNSEEN, transforms.EMPTY]


def test_lists_by_hand() -> None:
    table = tables.to_arrow(parse_spec(SMALL), _small_columns(), "list")
    firsts = {"a": 0, "b": 2, "c": 3}
    for name, values in ITEM_ROWS.items():
        of_list = name in ("_search_id", "hour", "_state_hour", "recent", "_state_recent")
        nested = [values[0:2], values[2:3], values[3:4]]
        assert table.column(name).to_pylist() == ([values[row] for row in firsts.values()] if of_list else nested), name


def test_pandas_keeps_ids_and_types() -> None:
    frame = tables.to_arrow(parse_spec(SMALL), _small_columns()).to_pandas()
    assert frame["_item"].dtype == np.int64 and frame["_item"][0] == 2**62 + 1
    assert frame["_state_price"].dtype == "category" and frame["price"].mean() == 1.25
    assert frame["_delay_buy"].dt.total_seconds()[0] == 1.5 and frame["_delay_buy"].isna().sum() == 3


@pytest.mark.parametrize("lists", [1, 50])
def test_random_columns_against_numpy(lists: int) -> None:
    spec = tiny_spec()
    columns = random_columns(spec, lists, 4)
    table, layout = tables.to_arrow(spec, columns), Layout.of(spec)
    rows = np.repeat(np.arange(lists), columns.lengths)
    both = (*zip(layout.context_num, columns.context_num[rows].T, strict=True), *zip(layout.item_num, columns.item_num.T, strict=True))
    for name, wanted in both:
        found, state = table.column(name).to_numpy(), np.array(table.column(f"_state_{name}").to_pylist())
        np.testing.assert_array_equal(np.where(state == "unseen", -np.inf, found), wanted, err_msg=name)
        assert (np.isnan(wanted) == (state == "missing")).all() and (np.isfinite(wanted) == (state == "present")).all()
    for name in layout.context_cat + layout.item_cat:
        wanted = columns.cat[name][rows] if name in layout.context_cat else columns.cat[name]
        assert table.column(name).to_pylist() == wanted.tolist()
    bag = columns.bags["tags"]
    assert table.column("tags").to_pylist() == [part.tolist() for part in np.split(bag.values, np.cumsum(bag.lengths)[:-1])]
    assert table.num_rows == len(columns.item)


def test_both_formats_give_the_same_table(both_formats: Path) -> None:
    for level in ("item", "list"):
        ours, theirs = (tables.read_table(both_formats / name, "train", level=level) for name in ("lists", "elwc"))
        assert ours.equals(theirs) and ours.num_rows == {"list": 24, "item": 8 * (3 + 3 + 4)}[level]


def test_choices_and_states_of_a_build(both_formats: Path) -> None:
    folder = both_formats / "lists"
    assert tables.read_table(folder, "train", max_lists=2, level="list").num_rows == 2
    one = tables.read_table(folder, "train", search_ids=["s13"]).to_pylist()
    # s13 shows c, a, d to a phone at 2026-01-02T02:00; c has no title and d is no known item.
    assert [row["_item"] for row in one] == transforms.hash_strings(["c", "a", "d"]).numpy().tolist()
    assert {row["_state_screen"] for row in one} == {"unknown"} and one[0]["_value_screen"] is None
    assert [row["_state_words"] for row in one] == ["missing", "present", "missing"]
    assert [row["_state_late"] for row in one] == ["present"] * 3
    early = tables.read_table(folder, "train", days=["2026-01-01"])
    for name in ("late", "late_kind", "late_history"):
        assert set(early.column(f"_state_{name}").to_pylist()) == {"unseen"}


def test_display_order_map_as_in_the_docs(both_formats: Path) -> None:
    df = tables.read_table(both_formats / "lists", "train").to_pandas().sort_values(["_search_id", "_position"])
    by_search = df.groupby("_search_id")
    precision = by_search["_label_click"].cumsum() / (by_search.cumcount() + 1)
    found = precision[df["_label_click"] == 1].groupby(df["_search_id"]).mean().mean()
    ranked = []
    for part in StoredLists(both_formats / "lists").read(Selection("train")):
        c = part.columns
        ranked.append(rank_metrics(-c.position, c.labels[:, 0], c.lengths, tie_breaker(c.item)).map)
    assert found == pytest.approx(np.nanmean(np.concatenate(ranked)))


def test_parquet_keeps_a_table(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    for level in ("item", "list"):
        table = tables.to_arrow(tiny_spec(), random_columns(tiny_spec(), 3), level)
        pq.write_table(table, tmp_path / "table.parquet")
        assert pq.read_table(tmp_path / "table.parquet").equals(table)
    assert isinstance(table.schema.field("_label_click").type, pa.ListType)
