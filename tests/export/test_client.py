from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from cvr.errors import CvrError
from export.client import Client, RequestFailedError, describe, table
from export.example import example_search
from export.lists import read_lists
from tests.export.conftest import Exported


def test_rank_orders_by_score(client: Client, exported: Exported) -> None:
    search = example_search(exported.run.spec, items=9)
    ranked = client.rank(search.context, search.items, search.history)
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)
    assert sorted(item.row for item in ranked) == list(range(9))
    assert all(item.item_id == search.items[item.row]["item_id"] and item.logits["purchase"] == item.score for item in ranked)


def test_equal_items_keep_their_order(client: Client) -> None:
    ranked = client.rank({}, [{"item_id": "a", "item_offset": 0}] * 3)
    assert [item.row for item in sorted(ranked, key=lambda item: -item.score)] == [item.row for item in ranked]


def test_history_and_missing_values_change_scores(client: Client) -> None:
    items = [{"item_id": "a", "price": 3.0}, {"item_id": "b", "price": None}]
    event = {"item_id": "b", "action": "click", "age": 9.0}
    histories: list[dict[str, list[dict[str, object]]]] = [{}, {"recent": []}, {"recent": [event]}]
    scores = [client.rank({}, items, history)[0].score for history in histories]
    assert len(set(scores)) == 3


def test_rank_of_a_stored_list(client: Client, exported: Exported) -> None:
    lists = read_lists(str(exported.lists), "test", 3)
    shown = lists.row(2)
    ranked = client.rank_list(lists.records[2], [f"{item:x}" for item in shown.item])
    assert len(ranked) == len(shown.item) and "score" in table(ranked, {"bought": shown.labels["purchase"]}).splitlines()[0]


def test_describe_names_every_signature(client: Client) -> None:
    text = describe(client)
    assert all(name in text for name in ("preprocess", "score_lists", "recent.age  float32 [n]", "hour  float32 [1]"))


def test_refusals_carry_status_and_message(target: str) -> None:
    with Client(target, version=8) as pinned, pytest.raises(RequestFailedError, match="NOT_FOUND: no version 8") as refused:
        pinned.rank({}, [{"item_id": "a"}])
    assert refused.value.code == grpc.StatusCode.NOT_FOUND


@pytest.fixture
def nobody() -> Iterator[Client]:
    with Client("127.0.0.1:1", timeout=20.0) as opened:
        yield opened


def test_no_server(nobody: Client) -> None:
    with pytest.raises(CvrError, match="no server answers at 127.0.0.1:1 .*python -m export.serve"):
        nobody.rank({}, [{"item_id": "a"}])
