"""Stacked unified attention against SUAN's own form, one sequence per candidate; padding, causality, windows, emptiness, costs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.stacked_attention import StackedAttention
from cvr.layers.unified_factors import UnifiedFactors
from tests.layers.case import Arrays, LayerCase, weights_of
from tests.layers.unified import stack

K = 4
OF_ITEMS = ("candidates", "match", "list_index")


class TestStackedAttention(LayerCase):
    """SUAN as in its code. Five candidates of three lists: four real events, three (and a column more than `length`), none."""

    factors = UnifiedFactors(layers=2, width=4, hidden=2, residual="code", gate="sample", tile=2)
    places = 1

    def make(self) -> StackedAttention:
        return StackedAttention(K, self.factors)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {
            "candidates": source.normal(0, 1, (5, 3)),
            "events": source.normal(0, 1, (3, K + 1, 3)),
            "real": np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool),
            "age": np.array([[2.0, 70.0, 900.0, 10000.0, 0.0], [30.0, 400.0, 7000.0, 0.0, 0.0], [0.0] * 5]),  # far from buckets' ends
            "match": np.array([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], bool),
            "list_index": np.array([0, 0, 1, 0, 2], np.int32),
            "query": source.normal(0, 1, (3, 2)),
            "numbers": source.normal(0, 1, (3, 5)),
        }

    def arguments(self, tensors: list) -> tuple:
        return (*tensors[:6], tuple(tensors[6:]))

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {name: value[order] if name in OF_ITEMS else value for name, value in inputs.items()}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        return stack(weights, self.factors, inputs, [inputs[name] for name in ("query", "numbers") if name in inputs])


class TestStackedAttentionLight(TestStackedAttention):
    """LightSUAN with a clean residual: a window of two and every second older event; a history is shared."""

    factors = UnifiedFactors(layers=2, width=4, hidden=2, residual="clean", gate="position", window=2, dilation=2, tile=2)
    test_savable = None  # the case above saves the same layer


CASES = (TestStackedAttention, TestStackedAttentionLight)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> TestStackedAttention:
    return request.param()


@pytest.fixture(scope="module")
def layer(case: TestStackedAttention) -> StackedAttention:
    return case.build()


def _tensors(case: TestStackedAttention, **changed: np.ndarray) -> list:
    return [tf.constant(x, tf.float32 if x.dtype.kind == "f" else None) for x in {**case.stored("inputs"), **changed}.values()]


def _run(case: TestStackedAttention, layer: StackedAttention, **changed: np.ndarray) -> np.ndarray:
    return layer(*case.arguments(_tensors(case, **changed))).numpy()


def _like(layer: StackedAttention, factors: UnifiedFactors, tensors: tuple) -> StackedAttention:
    """A stack with other factors that change no shape, and the same weights."""
    other = StackedAttention(layer.length, factors)
    other(*tensors)
    for one, value in zip(other.weights, layer.weights, strict=True):
        one.assign(value)
    return other


def test_appended_padding_changes_nothing_whatever_it_holds(case: TestStackedAttention, layer: StackedAttention) -> None:
    inputs = case.stored("inputs")
    events = np.pad(inputs["events"], [(0, 0), (0, 3), (0, 0)], constant_values=50.0)
    events[:, : K + 1][~inputs["real"]] = -50.0
    age = np.pad(np.where(inputs["real"], inputs["age"], 1e9), [(0, 0), (0, 3)], constant_values=77.0)
    wide = [(0, 0), (0, 3)]
    longer = {"events": events, "age": age, "real": np.pad(inputs["real"], wide), "match": np.pad(inputs["match"], wide)}
    np.testing.assert_allclose(_run(case, layer, **longer), _run(case, layer), rtol=1e-5, atol=1e-5)


def test_one_by_one_is_all_together(case: TestStackedAttention, layer: StackedAttention) -> None:
    """A list of n candidates against n lists of one."""
    inputs = case.stored("inputs")
    index = inputs["list_index"]
    alone = {name: value if name in OF_ITEMS else value[index] for name, value in inputs.items()}
    alone["list_index"] = np.arange(len(index), dtype=np.int32)
    np.testing.assert_allclose(_run(case, layer, **alone), _run(case, layer), rtol=1e-5, atol=1e-5)


def test_candidates_do_not_see_each_other(case: TestStackedAttention, layer: StackedAttention) -> None:
    candidates = case.stored("inputs")["candidates"].copy()
    candidates[1] += 3.0
    moved = np.abs(_run(case, layer, candidates=candidates) - _run(case, layer)).max(axis=1)
    assert moved[1] > 1e-3 and np.delete(moved, 1).max() < 1e-5


def test_the_first_and_the_last_event_are_read_and_their_ages(case: TestStackedAttention, layer: StackedAttention) -> None:
    inputs, before = case.stored("inputs"), _run(case, layer)
    for place in (0, K - 1):
        events, age = inputs["events"].copy(), inputs["age"].copy()
        events[0, place] += 1.0
        age[0, place] += 50_000.0
        for changed in ({"events": events}, {"age": age}):
            moved = np.abs(_run(case, layer, **changed) - before).max(axis=1)
            assert moved[[0, 1, 3]].min() > 1e-4 and moved[[2, 4]].max() == 0.0


def test_an_empty_history_and_the_padding_id(case: TestStackedAttention, layer: StackedAttention) -> None:
    """What the candidate of the empty list makes of itself; the zero vector of id PAD is a candidate like any other."""
    inputs = case.stored("inputs")
    candidates = inputs["candidates"].copy()
    candidates[[0, 4]] = 0.0
    output = _run(case, layer, candidates=candidates)
    assert np.isfinite(output).all() and np.abs(output[4] - _run(case, layer)[4]).max() > 1e-3
    one_event = inputs["real"].copy()
    one_event[2, 0] = True
    assert np.abs(_run(case, layer, real=one_event)[4] - _run(case, layer)[4]).max() > 1e-3


def test_windows_that_hold_everything_are_dense_attention(layer: StackedAttention, case: TestStackedAttention) -> None:
    tensors = case.arguments(_tensors(case))
    dense = _like(layer, dataclasses.replace(case.factors, window=0, dilation=0), tensors)(*tensors)
    for window, dilation in ((K + 1, 0), (3, 1)):
        other = _like(layer, dataclasses.replace(case.factors, window=window, dilation=dilation), tensors)
        np.testing.assert_allclose(other(*tensors), dense, rtol=1e-5, atol=1e-5)
    narrow = _like(layer, dataclasses.replace(case.factors, window=1, dilation=0), tensors)(*tensors)
    assert np.abs(narrow - dense).max() > 1e-4


@pytest.mark.parametrize("layers", [1, 3])
def test_other_grades_without_a_profile(case: TestStackedAttention, layers: int) -> None:
    layer = StackedAttention(K, dataclasses.replace(case.factors, layers=layers))
    tensors = _tensors(case)[:6]
    output = layer(*tensors)
    weights = {name: variable.numpy().astype(float) for name, variable in weights_of(layer).items()}
    inputs = {name: value for name, value in case.stored("inputs").items() if name not in ("query", "numbers")}
    np.testing.assert_allclose(output, stack(weights, layer.factors, inputs, [])["output"], rtol=1e-4, atol=1e-5)


def test_one_layer_pools_before_anything_couples() -> None:
    """With one layer no history comes out of the gate: a gate for a whole sample costs an item what a gate for a position does."""
    factors = UnifiedFactors(layers=1, width=4, hidden=2)
    costs = []
    for gate in ("sample", "position"):
        layer = StackedAttention(K, dataclasses.replace(factors, gate=gate))
        layer(*TestStackedAttention().arguments(_tensors(TestStackedAttention())))
        costs.append(layer.item_multiply_adds(K))
    assert costs[0] == costs[1]


def test_multiply_adds(layer: StackedAttention, case: TestStackedAttention) -> None:
    """By hand, for 5 events 3 wide, 4 wide inside, 2 profile tokens, 2 layers; tests/cvr/test_flops.py asks the profiler."""
    keys, profile_keys = 2 * 5 * 16, 2 * 2 * 16
    cross, gate, feed = 2 * 16 + 2 * 2 * 4, 3 * 4, 3 * 4 * 8
    pairs = 25 if not case.factors.window else 3 * 2 * 3 + 2 * 9
    attention = keys + profile_keys + 2 * 5 * 16 + 2 * pairs * 4 + 5 * cross
    candidate = 4 * 16 + 2 * 5 * 4 + cross + gate + feed
    empty = 2 * (5 + 2) * 4
    tokens = 5 * 3 * 4 + (2 + 5) * 4
    if case.factors.gate == "sample":
        assert layer.list_multiply_adds(5) == tokens + attention + empty
        assert layer.item_multiply_adds(5) == 3 * 4 + 2 * candidate + 5 * feed + attention
    else:
        assert layer.list_multiply_adds(5) == tokens + attention + 5 * (gate + feed) + keys + profile_keys + 2 * empty
        assert layer.item_multiply_adds(5) == 3 * 4 + 2 * candidate


def test_xla_computes_the_same() -> None:
    """Tiles, blocks and classes have shapes that XLA knows."""
    case = TestStackedAttentionLight()
    layer, tensors = case.build(), case.arguments(_tensors(case))
    compiled = tf.function(lambda *arguments: layer(*arguments), jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(*tensors), layer(*tensors), rtol=1e-4, atol=1e-5)
