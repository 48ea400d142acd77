"""The unified attention block against its equations: both residuals and both gates, candidate by candidate, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.unified_attention import UnifiedAttention
from cvr.layers.unified_factors import UnifiedFactors
from tests.layers.case import Arrays, LayerCase
from tests.layers.unified import block

K, D, P = 3, 4, 2
HIDDEN = -1e9
OF_ITEMS = ("candidates", "match", "list_index")


class TestUnifiedAttentionCode(LayerCase):
    """Four candidates of three lists; one list has one real event, one has none. SUAN's code: a history for each candidate comes out."""

    factors = UnifiedFactors(width=D, hidden=2, residual="code", gate="sample", tile=2)
    places = 2

    def make(self) -> UnifiedAttention:
        return UnifiedAttention(self.factors)

    def inputs(self, source: np.random.Generator) -> Arrays:
        real = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
        return {
            "candidates": source.normal(0, 1, (4, D)),
            "history": source.normal(0, 1, (3, K, D)),
            "candidate_bias": np.where(np.pad(real, [(0, 0), (0, 1)], constant_values=True), source.normal(0, 1, (3, K + 1)), HIDDEN),
            "match": np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]], bool),
            "real": real,
            "bias": np.where(np.tril(np.ones((K, K), bool), -1), HIDDEN, source.normal(0, 1, (3, 1, 1, K, K))),
            "profile": source.normal(0, 1, (3, P, D)),
            "list_index": np.array([0, 0, 1, 2], np.int32),
        }

    def arguments(self, tensors: list) -> tuple:
        return (*tensors[:5], (tensors[5],), *tensors[6:])

    def result(self, found: tuple) -> tf.Tensor:
        return found[0]

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {name: value[order] if name in OF_ITEMS else value for name, value in inputs.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        found: dict[str, list[np.ndarray]] = {}
        for n, row in enumerate(inputs["list_index"]):
            tokens = np.concatenate([inputs["history"][row], inputs["candidates"][n : n + 1]])
            bias = np.full((K + 1, K + 1), HIDDEN)
            bias[:K, :K], bias[K] = inputs["bias"][row, 0, 0], inputs["candidate_bias"][row]
            real = np.append(inputs["real"][row], True)
            profile = inputs["profile"][row] if "profile" in inputs else None
            match = np.append(inputs["match"][n], False)
            for name, value in block(weights, self.factors, tokens, bias, match, real, profile).items():
                found.setdefault(name, []).append(value[-1])
                found.setdefault(f"history_{name}", []).append(value[:-1])
        steps = {name: np.stack(rows) for name, rows in found.items()}
        first = np.array([0, 2, 3])  # a candidate of each list, for what does not depend on it
        apart = ("history_middle", "history_mixed", "history_output") if self.factors.gate == "sample" else ()
        return {name: value[first] if name.startswith("history_") and name not in apart else value for name, value in steps.items()}


class TestUnifiedAttentionClean(TestUnifiedAttentionCode):
    """A clean residual; each token has its own gate, and lists keep one history."""

    factors = UnifiedFactors(width=D, hidden=2, residual="clean", gate="position", tile=1)
    test_savable = None  # the case above saves the same layer


def _tensors(case: TestUnifiedAttentionCode) -> dict[str, tf.Tensor]:
    return {name: tf.constant(x, tf.float32 if x.dtype.kind == "f" else None) for name, x in case.stored("inputs").items()}


def _call(case: TestUnifiedAttentionCode, layer: UnifiedAttention, **changed: tf.Tensor | None) -> list:
    return list(layer(*case.arguments(list({**_tensors(case), **changed}.values()))))


@pytest.fixture(scope="module", params=[TestUnifiedAttentionCode, TestUnifiedAttentionClean])
def case(request: pytest.FixtureRequest) -> TestUnifiedAttentionCode:
    return request.param()


def test_permuted_profile_tokens_change_nothing(case: TestUnifiedAttentionCode) -> None:
    layer = case.build()
    profile = tf.constant(case.stored("inputs")["profile"], tf.float32)
    for one, other in zip(_call(case, layer), _call(case, layer, profile=profile[:, ::-1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_last_block_gives_the_same_candidates(case: TestUnifiedAttentionCode) -> None:
    layer, last = case.build(), UnifiedAttention(case.factors, last=True)
    expected = _call(case, layer)[0]
    _call(case, last)
    for one, other in zip(last.weights, layer.weights, strict=True):
        one.assign(other)
    found, none = _call(case, last)
    assert none is None
    np.testing.assert_array_equal(found, expected)
    if not last.needs_history(has_profile=True):
        tensors = _tensors(case)
        bare, _ = last(*list(tensors.values())[:5], profile=tensors["profile"], list_index=tensors["list_index"])
        np.testing.assert_array_equal(bare, expected)


def test_without_a_profile_there_is_no_gate(case: TestUnifiedAttentionCode) -> None:
    layer = case.make()
    found = _call(case, layer, profile=None)
    assert not any("/cross/" in weight.name or "/reduce/" in weight.name for weight in layer.weights)
    weights = {v.name.removeprefix(layer.name + "/").removesuffix(":0"): v.numpy().astype(float) for v in layer.trainable_variables}
    inputs = {name: value for name, value in case.stored("inputs").items() if name != "profile"}
    expected = case.reference(weights, inputs)
    np.testing.assert_allclose(found[0], expected["output"], rtol=1e-4, atol=1e-5)


def test_factors_that_do_not_fit() -> None:
    for wrong, message in (
        ({"width": 8, "heads": 3}, "heads, 3, must divide the width, 8"),
        ({"residual": "none"}, "residual is code or clean, not 'none'"),
        ({"gate": "list"}, "gate is sample or position, not 'list'"),
        ({"layers": 0}, "layers, width, hidden, time_buckets and tile are at least 1"),
        ({"window": -1}, "window and dilation are at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            UnifiedFactors(**wrong)
