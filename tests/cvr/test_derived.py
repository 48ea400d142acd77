"""Every derived feature: values worked out by hand on three lists, and an independent brute-force reference on random ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvr import records, transforms
from cvr.data import Batch, Budget, assemble
from cvr.derived import DerivedFeatures
from cvr.errors import CvrError
from cvr.schema import CONTEXT_OPS, DIFFERENCES, Derive, Feature, FeatureSpec, parse_spec
from tests.support import batch_of, random_columns

NAN = float("nan")
HISTORY = (
    "history_count",
    "history_age",
    "history_rank",
    "history_list_rank",
    "history_is_last",
    "history_length",
    "history_distinct",
    "history_seconds_since",
    "history_dwell",
    "offset_to_last",
)
LIST = ("list_rank", "list_ratio", "diff_above", "diff_below", "diff_best_above", "diff_mean")


def _spec_text() -> str:
    lines = [
        "dataset: derived",
        "tasks: {purchase: {events: [purchase], window: 1d, primary: true}}",
        "features:",
        "  seen: {kind: sequence, level: context, history: {events: [click, cart], length: 5}, embedding: {buckets: 9, dim: 2}}",
        "  price: {kind: numerical, level: item, from: item.price}",
        "  brand: {kind: categorical, level: item, from: item.brand, embedding: {buckets: 9, dim: 2}}",
        "  liked: {kind: categorical, level: context, from: impression.liked, embedding: {buckets: 9, dim: 2}}",
    ]

    def add(name: str, derive: str, level: str = "item") -> None:
        lines.append(f"  {name}: {{kind: numerical, level: {level}, derive: {{{derive}}}}}")

    for op in HISTORY:
        level = "context" if op in CONTEXT_OPS else "item"
        add(op, f"op: {op}, history: seen", level)
        add(f"{op}_cart", f"op: {op}, history: seen, events: [cart]", level)
        add(f"{op}_minute", f"op: {op}, history: seen, within: 1m", level)
    for op in LIST:
        add(op, f"op: {op}, feature: price")
    for op in DIFFERENCES:
        history = "history: seen, " if op in ("value_minus_last", "diff_touched") else ""
        add(f"ratio_{op}", f"op: {op}, {history}feature: price, ratio: true")
        if history:
            add(op, f"op: {op}, {history}feature: price")
    add("dwell_of_carts", "op: history_dwell, history: seen, events: [cart], cap: 3s")
    add("age_below", "op: diff_below, feature: history_age")
    add("rank_of_difference", "op: list_rank, feature: diff_above")
    add("list_size", "op: list_size", "context")
    add("list_size_of_item", "op: list_size")
    add("length_of_item", "op: history_length, history: seen")
    add("same", "op: same_as_context, feature: brand, other: liked")
    return "\n".join(lines)


SPEC = parse_spec(_spec_text())
CLICK, CART = 4, 5


def _columns() -> records.ListColumns:
    """List 0: items 10 20 30, history 30 (cart, 5 s) 99 (click, 50 s) 10 (click, 60 s) 30 (click, 100 s).
    List 1: items 20 40, empty history. List 2: item 10, unseen history."""
    return records.ListColumns(
        search_id=np.array(["a", "b", "c"], object),
        time=np.zeros(3, np.int64),
        lengths=np.array([3, 2, 1]),
        item=np.array([10, 20, 30, 20, 40, 10]),
        position=np.array([1, 2, 3, 1, 2, 1]),
        labels=np.zeros((6, 1), np.int64),
        delay=np.full((6, 1), -1),
        popularity=np.zeros(6, np.float32),
        context_num=np.zeros((3, 0), np.float32),
        item_num=np.array([[8.0], [NAN], [2.0], [4.0], [4.0], [transforms.UNSEEN_VALUE]], np.float32),
        cat={"brand": np.array([7, 8, transforms.EMPTY, 7, 8, 9]), "liked": np.array([7, 8, transforms.UNSEEN])},
        sequences={
            "seen": records.Histories(
                item=np.array([30, 99, 10, 30, transforms.UNSEEN]),
                action=np.array([CART, CLICK, CLICK, CLICK, transforms.UNSEEN]),
                age=np.array([5, 50, 60, 100, 0], np.float32),
                lengths=np.array([4, 0, 1]),
            )
        },
    )


BY_HAND = {
    "history_count": [1, 0, 2, 0, 0, NAN],
    "history_count_cart": [0, 0, 1, 0, 0, NAN],
    "history_count_minute": [1, 0, 1, 0, 0, NAN],
    "history_age": [60, NAN, 5, NAN, NAN, NAN],
    "history_age_cart": [NAN, NAN, 5, NAN, NAN, NAN],
    "history_rank": [2, NAN, 0, NAN, NAN, NAN],
    "history_rank_cart": [NAN, NAN, 0, NAN, NAN, NAN],
    "history_list_rank": [1, NAN, 0, NAN, NAN, NAN],
    "history_is_last": [0, 0, 1, 0, 0, NAN],
    "history_length": [4, 0, NAN],
    "history_length_minute": [3, 0, NAN],
    "history_length_cart": [1, 0, NAN],
    "history_distinct": [3, 0, NAN],
    "history_seconds_since": [5, NAN, NAN],
    "offset_to_last": [-2, -1, 0, NAN, NAN, NAN],
    "value_minus_last": [6, NAN, 0, NAN, NAN, NAN],
    "list_rank": [1, NAN, 0, 0.5, 0.5, NAN],
    "list_ratio": [1.6, NAN, 0.4, 1, 1, NAN],
    "list_size": [3, 2, 1],
    "list_size_of_item": [3, 3, 3, 2, 2, 1],
    "length_of_item": [4, 4, 4, 0, 0, NAN],
    "diff_above": [NAN, NAN, NAN, NAN, 0, NAN],
    "diff_best_above": [NAN, NAN, -6, NAN, 0, NAN],
    "diff_below": [NAN, NAN, NAN, 0, NAN, NAN],
    "diff_mean": [3, NAN, -3, 0, 0, NAN],
    "diff_touched": [3, NAN, -3, NAN, NAN, NAN],
    "ratio_diff_touched": [1.6, NAN, 0.4, NAN, NAN, NAN],
    "ratio_value_minus_last": [4, NAN, 1, NAN, NAN, NAN],
    "ratio_diff_best_above": [NAN, NAN, 0.25, NAN, 1, NAN],
    "history_dwell": [10, 0, 45, 0, 0, NAN],
    "dwell_of_carts": [0, 0, 3, 0, 0, NAN],
    "age_below": [NAN, NAN, NAN, NAN, NAN, NAN],
    "same": [1, 0, NAN, 0, 1, NAN],
}


def _compute(batch: Batch, name: str) -> np.ndarray:
    return DerivedFeatures(SPEC, batch).compute(SPEC.features[name]).numpy()


@pytest.fixture(scope="module")
def hand_batch() -> Batch:
    return batch_of(SPEC, _columns())


@pytest.fixture(scope="module")
def padded_batch() -> Batch:
    return batch_of(SPEC, _columns(), Budget(items=9, lists=5))


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str, hand_batch: Batch) -> None:
    np.testing.assert_allclose(_compute(hand_batch, name), BY_HAND[name], rtol=1e-6)


@pytest.mark.parametrize("name", BY_HAND)
def test_padding_changes_no_real_value(name: str, padded_batch: Batch) -> None:
    assert len(_compute(padded_batch, name)) == (5 if len(BY_HAND[name]) == 3 else 9)
    np.testing.assert_allclose(_compute(padded_batch, name)[: len(BY_HAND[name])], BY_HAND[name], rtol=1e-6)


# An independent reference: plain loops over lists, items and events, written from the definitions in cvr.derived.


class _List:
    """One list's items and its history, as plain Python values."""

    def __init__(self, columns: records.ListColumns, row: int) -> None:
        start, count = int(columns.lengths[:row].sum()), int(columns.lengths[row])
        rows = slice(start, start + count)
        history = columns.sequences["seen"]
        first = int(history.lengths[:row].sum())
        places = range(first, first + int(history.lengths[row]))
        self.events = [(int(history.item[k]), int(history.action[k]), float(history.age[k])) for k in places]
        self.unseen = any(item == transforms.UNSEEN for item, _, _ in self.events)
        self.items = columns.item[rows].tolist()
        self.price = [float(v) if math.isfinite(v) else None for v in columns.item_num[rows, 0]]
        self.brand, self.liked = columns.cat["brand"][rows].tolist(), int(columns.cat["liked"][row])

    def chosen(self, derive: Derive) -> list[tuple[int, int, float]]:
        codes = {"click": CLICK, "cart": CART}
        allowed = [codes[e] for e in derive.events] or list(codes.values())
        limit = math.inf if derive.within is None else derive.within / 1000
        return [event for event in self.events if event[1] in allowed and event[2] <= limit]


def _freshest_first(events: list[tuple[int, int, float]]) -> list[int]:
    return list(dict.fromkeys(item for item, _, _ in events))


def _of_history(one: _List, derive: Derive) -> list[float]:
    events = one.chosen(derive)
    fresh = _freshest_first(events)
    shown = [item for item in fresh if item in one.items]
    last = one.items.index(shown[0]) if shown else None
    per_item = {
        "history_count": lambda i: sum(e[0] == one.items[i] for e in events),
        "history_age": lambda i: next((e[2] for e in events if e[0] == one.items[i]), NAN),
        "history_rank": lambda i: fresh.index(one.items[i]) if one.items[i] in fresh else NAN,
        "history_list_rank": lambda i: shown.index(one.items[i]) if one.items[i] in shown else NAN,
        "history_is_last": lambda i: bool(events) and events[0][0] == one.items[i],
        "offset_to_last": lambda i: NAN if last is None else i - last,
        "value_minus_last": lambda i: NAN if last is None else _compare(derive, one.price[i], one.price[last]),
        "diff_touched": lambda i: _compare(derive, one.price[i], _mean([one.price[one.items.index(item)] for item in shown])),
        "history_dwell": lambda i: _dwell(one, derive, one.items[i]),
    }
    if derive.op in per_item:
        return [NAN if one.unseen else float(per_item[derive.op](i)) for i in range(len(one.items))]
    value = {
        "history_length": len(events),
        "history_distinct": len(fresh),
        "history_seconds_since": events[0][2] if events else NAN,
    }[derive.op]
    return [NAN if one.unseen else float(value)]


def _compare(derive: Derive, left: float | None, right: float | None) -> float:
    if left is None or right is None:
        return NAN
    return (left / right if right else NAN) if derive.ratio else left - right


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _dwell(one: _List, derive: Derive, item: int) -> float:
    """Time from each chosen event on the item to the customer's next event of any kind, or to the search."""
    times = [0.0] + [age for _, _, age in one.events]
    chosen = one.chosen(derive)
    spent = [min(times[k + 1] - times[k], derive.cap / 1000) for k, event in enumerate(one.events) if event in chosen and event[0] == item]
    return sum(spent)


def _column(one: _List, name: str | None) -> list[float | None]:
    operand = SPEC.features[name or "price"].derive
    if operand is None:
        return one.price
    values = _of_history(one, operand) if operand.history else _of_list(one, operand)
    return [None if math.isnan(value) else value for value in values]


def _of_list(one: _List, derive: Derive) -> list[float]:
    out = []
    op, column = derive.op, _column(one, derive.feature)
    for i, price in enumerate(column):
        others = [p for k, p in enumerate(column) if k != i and p is not None]
        above = [p for p in column[:i] if p is not None]
        if op == "list_size":
            return [float(len(one.items))]
        if op == "same_as_context":
            known = one.brand[i] >= 4 and one.liked >= 4
            out.append(float(one.brand[i] == one.liked) if known else NAN)
        elif price is None:
            out.append(NAN)
        elif op == "list_rank":
            out.append((sum(p < price for p in others) + 0.5 * sum(p == price for p in others)) / max(len(others), 1))
        elif op == "list_ratio":
            out.append(price / np.mean([*others, price]))
        elif op == "diff_above":
            out.append(_compare(derive, price, column[i - 1]) if i else NAN)
        elif op == "diff_below":
            out.append(_compare(derive, price, column[i + 1]) if i + 1 < len(column) else NAN)
        elif op == "diff_mean":
            out.append(_compare(derive, price, _mean(column)))
        else:
            out.append(_compare(derive, price, min(above)) if above else NAN)
    return out


def _expected(columns: records.ListColumns, feature: Feature) -> list[float]:
    assert feature.derive is not None
    out: list[float] = []
    for row, count in enumerate(columns.lengths):
        one = _List(columns, row)
        values = _of_history(one, feature.derive) if feature.derive.history else _of_list(one, feature.derive)
        out += values * int(count) if feature.level == "item" and feature.derive.op in CONTEXT_OPS else values
    return out


def _random(spec: FeatureSpec, seed: int) -> records.ListColumns:
    columns = random_columns(spec, lists=25, seed=seed)
    source = np.random.default_rng(seed)
    for name in ("brand", "liked"):
        columns.cat[name][:] = source.integers(1, 9, len(columns.cat[name]))
    columns.item_num[:] = np.where(np.isfinite(columns.item_num), np.round(columns.item_num) + 1.0, columns.item_num)
    columns.sequences["seen"].age[:] /= 40.0
    return columns


@pytest.mark.parametrize("seed", range(4))
def test_against_brute_force(seed: int) -> None:
    columns = _random(SPEC, seed)
    items = int(columns.lengths.sum())
    batch = batch_of(SPEC, columns, Budget(items + 3, 28))
    derived = DerivedFeatures(SPEC, batch)
    for feature in SPEC.select(stored=False):
        expected = _expected(columns, feature)
        values = derived.compute(feature).numpy()
        np.testing.assert_allclose(values[: len(expected)], expected, rtol=1e-5, atol=1e-5, err_msg=feature.name)
        if feature.level == "context":
            assert len(values) == 28


def test_match_is_an_event_on_the_item_itself(hand_batch: Batch) -> None:
    match = DerivedFeatures(SPEC, hand_batch).match("seen").numpy()
    assert match.shape == (6, 5)
    assert np.argwhere(match).tolist() == [[0, 2], [2, 0], [2, 3]]


def test_one_list_alone_gives_the_same_values() -> None:
    """Batch-mates have no influence, however long their lists are."""
    columns = _random(SPEC, 9)
    together = batch_of(SPEC, columns)
    values = {f.name: DerivedFeatures(SPEC, together).compute(f).numpy() for f in SPEC.select(stored=False)}
    shortest = int(np.argmin(columns.lengths))
    start = int(columns.lengths[:shortest].sum())
    serialized = records.encode(SPEC, columns)[shortest : shortest + 1]
    alone = assemble(SPEC, records.parse(SPEC, serialized))
    for feature in SPEC.select(stored=False):
        own = DerivedFeatures(SPEC, alone).compute(feature).numpy()
        first = shortest if feature.level == "context" else start
        np.testing.assert_array_equal(own, values[feature.name][first : first + len(own)])


@pytest.mark.parametrize(
    ("feature", "error"),
    [
        ("level: item, derive: {op: list_rank, feature: brand}", "list_rank needs a numerical feature of level item"),
        ("level: item, derive: {op: diff_above}", "diff_above needs the name of a feature"),
        ("level: item, derive: {op: same_as_context, feature: brand}", "derive.other: same_as_context needs the name"),
        (
            "level: item, derive: {op: same_as_context, feature: brand, other: price}",
            "categorical feature of level context",
        ),
        ("level: item, derive: {op: diff_above, feature: wrong}", "wrong is derived itself; it must be numerical and stand above"),
        ("level: item, derive: {op: list_rank, feature: price, ratio: true}", "list_rank compares nothing"),
        ("level: context, derive: {op: history_count, history: seen}", "history_count has a value per item"),
        ("level: item, derive: {op: history_count, history: price}", "needs the name of a sequence feature"),
    ],
)
def test_operands_that_cannot_be_are_refused_with_the_spec(feature: str, error: str) -> None:
    with pytest.raises(CvrError, match=error):
        parse_spec(_spec_text() + f"\n  wrong: {{kind: numerical, {feature}}}")
