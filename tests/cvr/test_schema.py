"""The feature spec: what it accepts, and the file, line and key that its errors name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvr.errors import CvrError
from cvr.schema import load_spec, parse_duration, parse_spec
from tests.support import SPEC, tiny_spec

HEAD = """dataset: d
tasks:
  purchase: {events: [purchase], window: 1d, primary: true}
features:
"""
PRICE = "  price: {kind: numerical, level: item, from: impression.price}\n"
RECENT = "  recent: {kind: sequence, level: context, history: {events: [click], length: 3}, embedding: {buckets: 9, dim: 2}}\n"


@pytest.mark.parametrize(
    ("text", "expected"), [("0s", 0), ("250ms", 250), ("30m", 1_800_000), ("7d", 604_800_000), (" 2h ", 7_200_000)]
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "5 weeks", "-1s", "1.5h", "h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_select_keeps_the_file_s_order_and_names_features() -> None:
    spec = tiny_spec()
    assert [f.name for f in spec.select(kind="numerical", level="item", stored=True)] == ["price", "rate"]
    assert [f.name for f in spec.select(stored=False)] == ["visits", "touched", "to_last", "offset", "price_rank"]
    assert spec.task_names == ("purchase", "click") and spec.primary_task == "purchase"
    assert spec.tasks["click"].window == 3_600_000
    assert [f.name for f in spec.select() if f.ragged] == ["query", "tags"]


def test_tables_are_shared_by_name() -> None:
    text = HEAD.replace("features:", "tables:\n  ids: {buckets: 10, dim: 4}\nfeatures:")
    spec = parse_spec(text + "  a: {kind: categorical, level: item, from: item.a, table: ids}\n" + RECENT)
    assert spec.embedding_of(spec.features["a"]) == ("ids", spec.tables["ids"])
    assert spec.embedding_of(spec.features["recent"])[0] == "recent"


ERRORS = {
    "unknown key": (
        "  p: {kind: numerical, level: item, from: impression.p, wat: 1}\n",
        5,
        "features.p.wat: unknown key",
    ),
    "unknown kind": (
        "  p: {kind: number, level: item, from: impression.p}\n",
        5,
        "features.p.kind: Input should be 'numerical'",
    ),
    "unknown level": (PRICE + "  p: {kind: numerical, level: list, from: impression.p}\n", 6, "features.p.level: "),
    "no source": ("  p: {kind: numerical, level: item}\n", 5, "features.p: give exactly one source"),
    "two sources": (
        "  p: {kind: numerical, level: item, from: item.p, aggregate: {by: [item], event: c}}\n",
        5,
        "give exactly one source",
    ),
    "from elsewhere": (
        "  p: {kind: numerical, level: item, from: price}\n",
        5,
        "must read impression.<column> or item.<column>",
    ),
    "sequence of an item": (RECENT.replace("context", "item"), 5, "a sequence belongs to the customer"),
    "sequence without history": (
        "  p: {kind: sequence, level: context, from: impression.p, embedding: {buckets: 9, dim: 2}}\n",
        5,
        "kind sequence and source history go together",
    ),
    "categorical without a table": (
        "  p: {kind: categorical, level: item, from: item.p}\n",
        5,
        "need an embedding or a table",
    ),
    "numerical with a table": (
        PRICE.replace("}", ", embedding: {buckets: 9, dim: 2}}"),
        5,
        "numerical ones take neither",
    ),
    "transform twice": (
        PRICE.replace("}", ", transforms: [log1p, log1p]}"),
        5,
        "names at least one transform, and each once",
    ),
    "unknown table": (
        "  p: {kind: categorical, level: item, from: item.p, table: t}\n",
        5,
        "features.p.table: no table 't'",
    ),
    "negative buckets": (
        RECENT.replace("9", "-9"),
        5,
        "features.recent.embedding.buckets: Input should be greater than 0",
    ),
    "unknown method": (
        RECENT.replace("dim: 2", "dim: 2, method: robe"),
        5,
        "features.recent.embedding.method: Input should be 'hash', 'quotient_remainder', 'multi_hash' or 'unified'",
    ),
    "an option of another method": (
        RECENT.replace("dim: 2", "dim: 2, method: multi_hash, collisions: 3"),
        5,
        "collisions belongs to method quotient_remainder, not to multi_hash",
    ),
    "shrinkage of another method": (
        RECENT.replace("dim: 2", "dim: 2, method: unified, shrinkage: 3"),
        5,
        "shrinkage belongs to method hash, not to unified",
    ),
    "parts of unlike widths": (
        RECENT.replace("dim: 2", "dim: 8, method: unified, hashes: 3"),
        5,
        "dim must be a multiple of 3",
    ),
    "vocabulary by another method": (
        "  p: {kind: categorical, level: item, from: item.p, vocabulary: [a], embedding: {buckets: 9, dim: 2, method: multi_hash}}\n",
        5,
        "features.p: the values of a vocabulary or a derived feature have a row each, so its method is hash",
    ),
    "encoder without a name": (
        RECENT.replace("dim: 2}", "dim: 2}, encoder: {layers: 2}"),
        5,
        "features.recent.encoder.name: Input should be a valid string",
    ),
    "bad window": (
        "  p: {kind: numerical, level: item, aggregate: {by: [item], event: c, lag: soon}}\n",
        5,
        "features.p.aggregate.lag: 'soon' is not a duration",
    ),
    "context aggregate by item": (
        "  p: {kind: numerical, level: context, aggregate: {by: [item], event: c}}\n",
        5,
        "an aggregate by item has level item",
    ),
    "derive without history": (
        PRICE + "  p: {kind: numerical, level: item, derive: {op: history_count, history: price}}\n",
        6,
        "features.p.derive.history: history_count needs the name of a sequence feature",
    ),
    "derive from a strange event": (
        RECENT + "  p: {kind: numerical, level: item, derive: {op: history_count, history: recent, events: [cart]}}\n",
        6,
        r"\['cart'\] are not events of recent",
    ),
    "derive without feature": (
        RECENT + "  p: {kind: numerical, level: item, derive: {op: list_rank}}\n",
        6,
        "features.p.derive.feature: list_rank needs the name of a feature",
    ),
    "derive from nothing": (
        RECENT + "  p: {kind: numerical, level: item, derive: {op: list_rank, feature: q}}\n",
        6,
        "list_rank needs the name of a feature; there is no 'q'",
    ),
    "written twice": (PRICE + PRICE, 6, "key 'price' is written twice"),
    "upper case": (PRICE.replace("price:", "Price:", 1), 5, "features.Price: a feature's name is lower case"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_file_line_and_key(name: str) -> None:
    features, line, message = ERRORS[name]
    with pytest.raises(CvrError, match=message) as caught:
        parse_spec(HEAD + features, "spec.yaml")
    assert str(caught.value).startswith(f"spec.yaml:{line}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD.replace(", primary: true", "") + PRICE, "exactly one task must say `primary: true`"),
        (HEAD.replace("[purchase]", "[]") + PRICE, "spec.yaml:3: tasks.purchase.events: "),
        (HEAD.replace("1d", "1 day") + PRICE, "spec.yaml:3: tasks.purchase.window: '1 day' is not a duration"),
        (HEAD + PRICE + "more: 1\n", "spec.yaml:6: more: unknown key"),
        (HEAD, "spec.yaml:4: features: "),
        ("", "spec.yaml: the file is empty"),
        ("- a\n", "spec.yaml:1: "),
        ("a: [1\nb: 2", "spec.yaml:2: not valid YAML"),
    ],
)
def test_errors_of_the_whole_file(text: str, message: str) -> None:
    with pytest.raises(CvrError) as caught:
        parse_spec(text, "spec.yaml")
    assert message in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="no feature spec at .*none.yaml; give --spec="):
        load_spec(tmp_path / "none.yaml")


def test_the_fingerprint_follows_the_records_and_not_the_model() -> None:
    original = tiny_spec().fingerprint
    same = [
        SPEC.replace("embedding: {buckets: 50, dim: 3}", "embedding: {buckets: 70, dim: 5}"),
        SPEC.replace("transforms: [zscore]}", "transforms: [log1p]}"),
        SPEC.replace("    encoder: target_attention\n", ""),
        SPEC.replace("  touched: {kind: numerical, level: item, derive: {op: history_count, history: recent}}\n", ""),
    ]
    other = [
        SPEC.replace("from: item.price", "from: impression.price"),
        SPEC.replace("ngrams: [2, 3]", "ngrams: [2]"),
        SPEC.replace("window: 1h", "window: 2h"),
        SPEC.replace("length: 4", "length: 5"),
        SPEC.replace("  hour:", "  hours:"),
    ]
    assert all(text != SPEC and parse_spec(text).fingerprint == original for text in same)
    assert all(text != SPEC and parse_spec(text).fingerprint != original for text in other)


def test_the_order_of_features_is_part_of_the_fingerprint() -> None:
    stock = PRICE.replace("price", "stock")
    assert parse_spec(HEAD + PRICE + stock).fingerprint != parse_spec(HEAD + stock + PRICE).fingerprint


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_spec().features["price"].kind = "text"  # type: ignore[misc]


def test_the_project_s_own_specs_load(project_root: Path) -> None:
    found = {path.stem: load_spec(path) for path in sorted((project_root / "configs" / "features").glob("*.yaml"))}
    assert {"expedia2013", "synthetic", "trivago2019"} <= set(found)
    assert all(name == spec.dataset or name.startswith(f"{spec.dataset}_") for name, spec in found.items())
    assert all(spec.primary_task == "purchase" for spec in found.values())
