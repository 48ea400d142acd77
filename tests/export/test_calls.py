"""The client's operations against a server behind a proxy: two phases, parts, versions, and the same by asyncio."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2

from cvr.errors import CvrError
from export.async_client import AsyncClient
from export.batching import Batching
from export.checks import Subject
from export.client import Client, Options, RankedItem, RequestFailedError
from export.example import example_search
from export.prediction_log import LogWriter, read_log
from export.request import Search, to_arrays
from export.saved_model import save_version
from export.servable import Servable
from export.server import Server
from export.services import Models
from tests.export.conftest import Exported
from tests.export.proxies import Proxy
from tests.export.tiny import make_run

ALONE = """
dataset: alone
tasks:
  purchase: {events: [purchase], window: 1d, primary: true}
  click: {events: [click], window: 1h}
features:
  hour: {kind: numerical, level: context, from: impression.hour}
  item: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 20, dim: 2}}
  price: {kind: numerical, level: item, from: item.price}
  recent: {kind: sequence, level: context, history: {events: [click], length: 4}, embedding: {buckets: 20, dim: 2}}
  touched: {kind: numerical, level: item, derive: {op: history_count, history: recent}}
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Subject]]:
    """A model whose items do not look at each other, for at most 7 items a request, behind a proxy."""
    folder = tmp_path_factory.mktemp("alone")
    ranker, run = make_run(folder / "model", ALONE)
    servable = Servable(save_version(run, ranker, folder / "export", 5, Batching(allowed_sizes=(8,), max_request_items=7)))
    server = Server(Models("cvr", {5: servable}))
    server.start()
    with Proxy(f"127.0.0.1:{server.port}").serving() as proxy, Client(proxy.target) as client:
        yield proxy, Subject(run.spec, ranker, servable, client)
    server.stop(grace=0.0)


def _logits(ranked: list[RankedItem]) -> np.ndarray:
    return np.array([[item.logits["purchase"], item.logits["click"]] for item in sorted(ranked, key=lambda item: item.row)])


def test_a_large_search_in_parts_scores_as_the_checkpoint_scores_it_whole(alone: tuple[Proxy, Subject]) -> None:
    proxy, subject = alone
    search = example_search(subject.spec, items=20, seed=3)
    subject.client.signatures()
    before = len(proxy.requests)
    ranked = subject.client.rank(search.context, search.items, search.history)
    sent = proxy.requests[before:]
    assert sorted(len(r.inputs["item_id"].string_val) for r in sent) == [6, 7, 7] and {r.model_spec.version.value for r in sent} == {5}
    expected = subject.of_request(to_arrays(search, subject.client.inputs()))
    np.testing.assert_allclose(_logits(ranked), expected, atol=1e-5)
    assert [item.row for item in ranked] == np.argsort(-expected[:, 0], kind="stable").tolist()
    in_two = subject.client.score(subject.client.preprocess(*search))
    np.testing.assert_allclose(_logits(in_two), expected, atol=1e-5)


def test_parts_may_be_forbidden(alone: tuple[Proxy, Subject]) -> None:
    items = [{"item_id": f"i{n}"} for n in range(8)]
    with Client(alone[0].target, options=Options(split="never")) as client:
        assert len(client.rank({}, items[:7])) == 7
        with pytest.raises(CvrError, match="has 8 items, version 5 takes 7 in a request.*split=never"):
            client.rank({}, items)


def test_a_search_whose_items_see_each_other_is_not_cut(client: Client) -> None:
    items = [{"item_id": f"i{n}"} for n in range(2001)]
    message = "2001 items, version 3 takes 2000.*to_last, above, price_rank depend on all items.*--max_request_items"
    with pytest.raises(CvrError, match=message):
        client.rank({}, items)


def test_two_phases_on_two_servers_use_one_version(target: str, client: Client, exported: Exported) -> None:
    search = example_search(exported.run.spec, items=9, seed=2, gaps=0.1)
    with Proxy(target).serving() as proxy, Client(proxy.target) as scorer:
        prepared = client.preprocess(*search)
        assert prepared.version == 3 and prepared.halves["context_projection"].shape[0] == 1
        np.testing.assert_allclose(_logits(scorer.score(prepared)), _logits(client.rank(*search)), atol=1e-6)
        assert [r.model_spec.version.value for r in proxy.requests] == [3]
        with pytest.raises(RequestFailedError, match="NOT_FOUND.*8"):
            scorer.score(dataclasses.replace(prepared, version=8))
    with Client(target, version=2) as pinned, pytest.raises(CvrError, match="version 3 preprocessed .* asks for version 2 only"):
        pinned.score(prepared)


def _older(method: str, request: Any, answer: Any) -> Any:
    """The metadata as of a version 2 that had no input `price`."""
    if method == "GetModelMetadata" and not hasattr(_older, "told"):
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        del found.signature_def["serving_default"].inputs["price"], found.signature_def["limits"]
        answer.metadata["signature_def"].Pack(found)
        answer.model_spec.version.value = 2
        _older.told = True  # type: ignore[attr-defined]
    return answer


def test_a_search_is_built_anew_after_a_version_with_other_inputs(target: str) -> None:
    with Proxy(target, after=_older).serving() as proxy, Client(proxy.target) as client:
        assert "price" not in client.inputs()
        assert len(client.rank({}, [{"item_id": "a", "price": 3.0}])) == 1
        assert proxy.counts == {"GetModelMetadata": 2, "Predict": 2} and "price" in client.inputs()
        with pytest.raises(CvrError, match="no input 'colour'"):
            client.rank({}, [{"item_id": "a", "colour": 3.0}])


def test_version_labels(target: str) -> None:
    with Proxy(target).serving() as proxy, Client(proxy.target, version="stable") as client:
        with pytest.raises(RequestFailedError) as refused:
            client.rank({}, [{"item_id": "a"}])
    assert proxy.requests[0].model_spec.version_label == "stable"
    assert refused.value.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


def test_many_searches_at_a_time(client: Client, exported: Exported) -> None:
    searches = [example_search(exported.run.spec, items=1 + n, seed=n) for n in range(20)]
    assert client.rank_many(searches, in_flight=8) == [client.rank(*search) for search in searches]
    with pytest.raises(CvrError, match="no items"):
        client.rank_many([*searches, Search({}, [])])


def test_a_log_of_what_was_answered(target: str, tmp_path: Path) -> None:
    with LogWriter(tmp_path / "log") as log, Client(target, options=Options(log=log)) as client:
        best = client.rank({"hour": 3.0}, [{"item_id": "a"}, {"item_id": "b"}])[0]
    call = list(read_log(tmp_path / "log"))[-1]
    assert call.request.inputs["hour"].tensor_content == np.float32(3.0).tobytes()
    assert call.response is not None and call.response.model_spec.version.value == 3
    assert np.frombuffer(call.response.outputs["score"].tensor_content, np.float32).max() == np.float32(best.score)


def test_one_deadline_for_all(target: str) -> None:
    with Client(target) as client, pytest.raises(RequestFailedError, match="within the deadline") as late:
        client.rank({}, [{"item_id": "a"}], timeout=0.0)
    assert late.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


async def _by_asyncio(target: str, searches: list[Search]) -> dict[str, Any]:
    async with AsyncClient(target, timeout=60.0) as client:
        found: dict[str, Any] = {"signatures": await client.signatures(), "status": await client.status()}
        found["one"] = await client.rank(*searches[0])
        found["many"] = await client.rank_many(searches, in_flight=8)
        found["phases"] = await client.score(await client.preprocess(*searches[1]))
        try:
            await client.rank_many([searches[0], Search({}, [])])
        except CvrError as error:
            found["error"] = str(error)
    return found


def test_asyncio_gives_the_same(target: str, client: Client, exported: Exported) -> None:
    searches = [example_search(exported.run.spec, items=1 + n, seed=n) for n in range(12)]
    found = asyncio.run(_by_asyncio(target, searches))
    one_by_one = [client.rank(*search) for search in searches]
    assert found["one"] == one_by_one[0] and found["many"] == one_by_one and found["status"] == {3: "AVAILABLE"} == client.status()
    np.testing.assert_allclose(_logits(found["phases"]), _logits(one_by_one[1]), atol=1e-6)
    assert found["error"] == "the search has no items to rank" and set(found["signatures"]) == set(client.signatures())


def test_asyncio_sends_safe_failures_again_and_searches_in_parts(alone: tuple[Proxy, Subject]) -> None:
    _, subject = alone
    search = example_search(subject.spec, items=20, seed=4)

    async def rank(at: str) -> list[RankedItem]:
        async with AsyncClient(at) as client:
            return await client.rank(*search)

    refuse_first = lambda method, request, number: (grpc.StatusCode.UNAVAILABLE, "once") if number == 1 else None  # noqa: E731
    with Proxy(alone[0].target, refuse_first).serving() as proxy:
        np.testing.assert_allclose(_logits(asyncio.run(rank(proxy.target))), _logits(subject.client.rank(*search)), atol=1e-6)
        assert proxy.counts == {"GetModelMetadata": 2, "Predict": 5}
