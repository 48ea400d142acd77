"""Families by spec and by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvr.errors import CvrError
from cvr.schema import load_spec
from tools.permutation.families import make_families
from tools.permutation.plan import make_plan

SPECS = Path("configs/features")


def test_families_of_the_synthetic_data() -> None:
    spec = load_spec(SPECS / "synthetic.yaml")
    found = make_families(spec)
    assert found.members["query-item engagement"] == ("pair_click_rate", "pair_purchase_rate", "pair_impressions")
    assert found.members["query engagement"] == ("query_click_rate", "query_impressions")
    assert found.members["customer history"] == ("history", "history_count", "history_age")
    assert found.members["query-item understanding"] == ("same_category",)
    assert found.members["raw query"] == ("query_text", "query") and found.members["raw item text"] == ("title",)
    assert found.members["display position"] == ("position", "place") and found.members["item id"] == ("item",)
    assert {"price", "price_rank", "price_ratio"} <= set(found.members["item attributes"])
    assert found.members["search context"] == ("list_size", "query_category", "customer_segment")
    assert sorted(name for names in found.members.values() for name in names) == sorted(spec.features)
    assert found.anchor == "customer history" and set(found.categories) == {"engagement", "understanding"}
    named = make_families(spec, "configs/importance/synthetic.yaml")
    assert named.members["query-item understanding"] == ("match_score", "semantic_score", "same_category")
    assert {"pair_click_rate", "query_click_rate", "item_click_rate"} < set(named.category("engagement"))
    assert named.anchor == "customer" and set(named.members["customer"]) == {"customer_segment", "history", "history_count", "history_age"}


def test_without_one_of_the_categories_there_is_no_table_2() -> None:
    found = make_families(load_spec(SPECS / "trivago2019.yaml"))
    assert found.anchor is None and found.categories == {}
    assert found.members["customer-item engagement"] == ("own_clickouts", "own_impressions")
    assert make_plan(load_spec(SPECS / "trivago2019.yaml"), found, ()).table2 == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("families: {a: [nothing]}", "family 'a': the run's spec has no feature 'nothing'"),
        ("families: {a: [price], b: [price]}", "feature 'price' is in the families 'a' and 'b'"),
        ("families: {a: price}", "give `families:"),
        ("family: {a: [price]}", "give `families:"),
        ("families: {price: [brand]}", "'price' is the name of a feature"),
        ("shares: {with: nobody, of: {x: [item id]}}", "there is no family 'nobody'"),
        ("shares: {with: item id, of: {x: [item id]}}", "family 'item id' stands there twice"),
        ("shares: {of: {x: [item id]}}", "give `families:"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "families.yaml"
    path.write_text(text)
    with pytest.raises(CvrError, match=message) as error:
        make_families(load_spec(SPECS / "synthetic.yaml"), str(path))
    assert str(path) in str(error.value)


def test_pairs_of_names() -> None:
    spec = load_spec(SPECS / "synthetic.yaml")
    families = make_families(spec)
    plan = make_plan(spec, families, ["price:raw query"])
    assert plan.pairs[-1].left == ("price",) and plan.pairs[-1].right == families.members["raw query"]
    assert len(plan.pairs) == len(families.members) * (len(families.members) - 1) // 2 + 1
    cells = plan.cells()
    assert len(set(cells)) == len(cells) and all(features for _, features in cells)
    with pytest.raises(CvrError, match="--pairs: 'price:prize': there is no feature or family 'prize'"):
        make_plan(spec, families, ["price:prize"])
    with pytest.raises(CvrError, match="--pairs: 'price:item attributes': price is in both"):
        make_plan(spec, families, ["price:item attributes"])
