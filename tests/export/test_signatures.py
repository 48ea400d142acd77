from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.ranker import RankerConfig, build_ranker
from cvr.schema import parse_spec
from export.batching import Batching
from export.example import example_search
from export.request import to_arrays
from export.servable import Servable, graph_message
from export.signatures import CONTEXT, ITEMS, ServingModule
from tests.export.conftest import Exported
from tests.export.tiny import SPEC


def _request(servable: Servable, items: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    return to_arrays(example_search(parse_spec(SPEC), items, seed, gaps=0.1), servable.inputs("serving_default"))


def test_their_names(servable: Servable) -> None:
    assert set(servable.signature_defs) == {"preprocess", "score", "serving_default", "score_lists", "limits"}
    assert set(servable.outputs("serving_default")) == {"purchase", "click", "score"}


def test_score_is_the_primary_task(servable: Servable) -> None:
    outputs = servable.run("serving_default", _request(servable))
    np.testing.assert_array_equal(outputs["score"], outputs["purchase"])
    assert outputs["score"].shape == (6,) and np.std(outputs["click"] - outputs["score"]) > 0


def test_context_is_computed_once_and_may_be_repeated(servable: Servable) -> None:
    request = _request(servable)
    halves = servable.run("preprocess", request)
    assert halves["context_projection"].shape[0] == 1 and halves["item_features"].shape[0] == 6
    once = servable.run("score", halves)["score"]
    halves["context_projection"] = np.repeat(halves["context_projection"], 6, axis=0)
    np.testing.assert_allclose(servable.run("score", halves)["score"], once, atol=1e-6)
    np.testing.assert_allclose(servable.run("serving_default", request)["score"], once, atol=1e-6)


@pytest.mark.parametrize("name", ["price", "title", "tags", "query", "device", "hour", "rate", "recent.item_id", "item_id"])
def test_every_input_moves_the_scores(servable: Servable, name: str) -> None:
    request = to_arrays(example_search(parse_spec(SPEC), 6, seed=4), servable.inputs("serving_default"))
    before = servable.run("serving_default", request)["score"]
    other = request[name].copy()
    other[...] = "tablet" if other.dtype == object else other[::-1] + 7.0
    after = servable.run("serving_default", {**request, name: other})["score"]
    assert np.abs(after - before).max() > 1e-4


def test_missing_and_unseen_score_differently(servable: Servable) -> None:
    request = _request(servable)
    scores = []
    for text, number in (("", np.nan), ("\x00", -np.inf)):
        texts = {name: np.full(6, text, object) for name in ("title", "tags")}
        numbers = {name: np.full(6, number, np.float32) for name in ("price", "rate")}
        scores.append(servable.run("serving_default", {**request, **texts, **numbers})["score"])
    assert np.abs(scores[0] - scores[1]).max() > 1e-4 and np.isfinite(scores).all()


def test_score_refuses_rows_that_do_not_fit(servable: Servable) -> None:
    halves = servable.run("preprocess", _request(servable))
    halves["context_projection"] = np.repeat(halves["context_projection"], 2, axis=0)
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        servable.run("score", halves)
    assert "context_projection must have 1 row" in graph_message(refused.value)


def test_foreign_record_is_refused(servable: Servable) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="built with another feature spec"):
        servable.run("score_lists", {"examples": np.array([b""], object)})


def test_task_named_like_an_output(exported: Exported) -> None:
    spec = parse_spec(SPEC.replace("click: {events", "score: {events"))
    with pytest.raises(CvrError, match="tasks.score: "):
        ServingModule(spec, exported.ranker, Batching())


def test_halves_of_a_bfloat16_ranker_are_float32_and_lose_nothing(servable: Servable) -> None:
    spec = parse_spec(SPEC)
    ranker = build_ranker(spec, RankerConfig("dcnv2", precision="mixed_bfloat16"), dummy_batch(spec))
    module = ServingModule(spec, ranker, Batching())
    halves = module._preprocess({name: tf.constant(value) for name, value in _request(servable).items()})
    assert {value.dtype for value in halves.values()} == {tf.float32}
    exact = ranker.score(*(tf.cast(halves[name], tf.bfloat16) for name in (CONTEXT, ITEMS)))
    np.testing.assert_array_equal(module._score(halves)["purchase"].numpy(), exact.numpy()[:, 0])
